"""Findings from report texts, in Chinese and English, by rules that are data: coded facts, never the text."""

from __future__ import annotations

from radlake.findings.reading import Fact, read_report
from radlake.findings.rules import Rules, load_rules

__all__ = ["Fact", "Rules", "load_rules", "read_report"]
