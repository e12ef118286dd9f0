from __future__ import annotations

import pytest
import yaml

from radlake.errors import ConfigInvalid
from radlake.resources import data_root
from radlake.stats.definitions import definitions, load_definitions
from radlake.stats.duplicates.packs import load_grounds, load_packs


@pytest.mark.parametrize("language", ["zh", "en"])
def test_the_pages_are_those_of_the_rules_and_specs(language):
    page = definitions(language, specs=data_root() / "tests" / "spec")
    written = (data_root() / "docs" / "reference" / "definitions" / f"{language}.md").read_text(encoding="utf-8")
    assert written == page, "run: python -m radlake.stats.definitions docs/reference/definitions"
    assert all(name in page for name in load_packs())
    assert all(f"| {code} |" in page for code in load_grounds())
    assert "R_look(W)" in page


def test_a_text_in_one_language_is_refused(tmp_path):
    one = load_definitions()[0] | {"title": {"en": "Only English"}}
    (tmp_path / "one.yaml").write_text(yaml.safe_dump(one, allow_unicode=True))
    with pytest.raises(ConfigInvalid, match="every text needs zh and en"):
        load_definitions(tmp_path)
