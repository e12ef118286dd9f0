"""Review: what a person who sees the picture decides about it. Part of the restricted zone."""

from __future__ import annotations

from radlake.review.decisions import decision_from_review, region_from_text, text_from_region
from radlake.review.queue import Item, Queue

__all__ = ["Item", "Queue", "decision_from_review", "region_from_text", "text_from_region"]
