"""The pages: published statistics and operations of a lake in a browser, in Chinese and English.

`snapshot` reads, `figures` make grids, `pages` arrange them, `app` answers requests, `server` listens. Everything
shown was published before: no page sees the restricted zone.
"""

from __future__ import annotations

from radlake.web.app import create_app
from radlake.web.server import serve

__all__ = ["create_app", "serve"]
