"""What tests share. Its assertions show their values, as those of tests do."""

import pytest

pytest.register_assert_rewrite(__name__)
