"""Validate: whether one instance may go on to de-identification and storage."""

from __future__ import annotations

from radlake.validate.instance import check_instance

__all__ = ["check_instance"]
