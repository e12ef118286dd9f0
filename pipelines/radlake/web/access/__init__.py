"""Who may see what: roles, local accounts, sessions, limits, and the audit of who saw what (docs/adr/0040)."""

from __future__ import annotations

from radlake.web.access.accounts import Account, Accounts
from radlake.web.access.audit import AuditLog
from radlake.web.access.gate import Access
from radlake.web.access.roles import MAY, Right, Role

__all__ = ["MAY", "Access", "Account", "Accounts", "AuditLog", "Right", "Role"]
