"""The hospitals file: what a registrar writes, and what is said of each mistake."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from textwrap import dedent

import pytest

from radlake.errors import ConfigInvalid, SourceMissing
from radlake.net import DimseNode, FolderNode, Hospital, WebNode, load_hospitals
from radlake.net.node import Auth, Timeouts, Tls

WHOLE = """
hospitals:
  - hospital_id: jsph
    name_zh: 江苏样例医院
    name_en: Jiangsu Example Hospital
    region_code: 320106
    level: 3A
    storage_policy: index
    node:
      kind: dimse
      ae_title: JSPHPACS
      host: 10.1.2.3
      port: 11112
      retrieve: move
      move_port: 11113
      query_model: patient
      timeouts: {connect: 5, query: 30, retrieve: 600}
      max_associations: 4
      tls: {ca: keys/ca.pem, certificate: keys/us.pem, key: keys/us.key}
  - hospital_id: county-2
    name_zh: 样例县医院
    name_en: Example County Hospital
    node: {kind: dicomweb, base_url: "https://pacs.example/dicom-web/", auth: {bearer: "env:COUNTY_TOKEN"}}
  - hospital_id: disk_3
    name_zh: 旧光盘
    name_en: Old disks
    node: {kind: folder, path: exports}
"""


def written(folder: Path, text: str, name: str = "hospitals.yaml") -> Path:
    path = folder / name
    path.write_text(dedent(text), encoding="utf-8")
    return path


def hospital(**node: str) -> str:
    inner = ", ".join(f"{key}: {value}" for key, value in node.items())
    return f"""
    hospitals:
      - hospital_id: h1
        name_zh: 一
        name_en: One
        node: {{{inner}}}
    """


def problems_of(path: Path) -> list[str]:
    with pytest.raises(ConfigInvalid) as caught:
        load_hospitals(path)
    return caught.value.facts["problems"]


def test_a_whole_file(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    assert load_hospitals(written(tmp_path, WHOLE)) == {
        "jsph": Hospital(
            hospital_id="jsph",
            name_zh="江苏样例医院",
            name_en="Jiangsu Example Hospital",
            region_code="320106",
            level="3A",
            storage_policy="index",
            node=DimseNode(
                name="jsph",
                ae_title="JSPHPACS",
                host="10.1.2.3",
                port=11112,
                retrieve="move",
                move_port=11113,
                query_model="patient",
                timeouts=Timeouts(connect=5, query=30, retrieve=600),
                max_associations=4,
                tls=Tls(ca=keys / "ca.pem", certificate=keys / "us.pem", key=keys / "us.key"),
            ),
        ),
        "county-2": Hospital(
            hospital_id="county-2",
            name_zh="样例县医院",
            name_en="Example County Hospital",
            node=WebNode(
                name="county-2", base_url="https://pacs.example/dicom-web", auth=Auth(bearer="env:COUNTY_TOKEN")
            ),
        ),
        "disk_3": Hospital(
            hospital_id="disk_3",
            name_zh="旧光盘",
            name_en="Old disks",
            node=FolderNode(name="disk_3", path=tmp_path / "exports"),
        ),
    }


def test_what_is_left_out_has_a_default(tmp_path: Path) -> None:
    one = load_hospitals(written(tmp_path, hospital(kind="dimse", ae_title="A", host="h")))["h1"]
    assert (one.region_code, one.level, one.storage_policy) == ("UNKNOWN", "UNKNOWN", "central")
    assert isinstance(one.node, DimseNode)
    assert (one.node.port, one.node.retrieve, one.node.query_model, one.node.tls) == (104, "get", "study", None)


def test_a_hospital_travels_to_worker_processes(tmp_path: Path) -> None:
    hospitals = load_hospitals(written(tmp_path, WHOLE))
    assert pickle.loads(pickle.dumps(hospitals)) == hospitals


@pytest.mark.parametrize(("kind", "expected"), [("get", "c-get"), ("move", "c-move")], ids=["C-GET", "C-MOVE"])
def test_how_a_dimse_node_is_retrieved_from(kind: str, expected: str) -> None:
    assert DimseNode.model_validate({"ae_title": "A", "host": "h", "retrieve": kind}).retrieve_kind == expected


def test_a_folder_of_files_is_one_registry(tmp_path: Path) -> None:
    written(tmp_path, hospital(kind="folder", path="a"), name="b.yaml")
    written(tmp_path, hospital(kind="folder", path="a").replace("h1", "h0"), name="a.yml")
    written(tmp_path, "not: read", name="notes.txt")
    assert list(load_hospitals(tmp_path)) == ["h0", "h1"]


def test_every_problem_of_every_file_at_once(tmp_path: Path) -> None:
    written(tmp_path, hospital(kind="dimse", aetitle="A", host="h", port="0"), name="a.yaml")
    written(tmp_path, hospital(kind="dicomweb", base_url="ftp://x"), name="b.yaml")
    written(tmp_path, "hospitals: [", name="c.yaml")
    assert problems_of(tmp_path) == [
        "a.yaml: hospitals[0].node.ae_title: is required",
        "a.yaml: hospitals[0].node.port: must be greater than or equal to 1",
        "a.yaml: hospitals[0].node.aetitle: unknown key; did you mean ae_title?",
        "b.yaml: hospitals[0].hospital_id: h1 is taken by a.yaml: hospitals[0].hospital_id; choose another",
        "b.yaml: hospitals[0].node.base_url: must begin with https:// or http://",
        "c.yaml: line 2: did not find expected node content",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (hospital(kind="dimse", ae_title="A", host="h", timeouts="{conect: 3}"),
         "hospitals[0].node.timeouts.conect: unknown key; did you mean connect?"),
        (hospital(kind="dimse", ae_title="A", host="h", zzz="3"),
         "hospitals[0].node.zzz: unknown key; known are timeouts, max_associations, courtesy, kind, ae_title, host, "
         "port, retrieve, query_model, move_port, tls"),
        (hospital(kind="dimse", ae_title="A", host="h", courtesy="{calendar: [{hours: 20-6}]}"),
         "hospitals[0].node.courtesy.calendar[0].hours: must be whole hours as in 8-20, the first before the last; "
         "a night is two lines: 20-24, 0-6"),
        (hospital(kind="dimse", ae_title="A", host="h", courtesy="{calendar: [{days: mo-fr}]}"),
         "hospitals[0].node.courtesy.calendar[0].days: must be days as in mon-fri or sat,sun; known are mon, tue, wed, "
         "thu, fri, sat, sun"),
        (hospital(kind="dimse", ae_title="A", host="h", courtesy="{calendar: [{hours: 8-20}, {days: sun}]}"),
         "hospitals[0].node.courtesy: calendar[0] and calendar[1] both name sun 8:00; let only one of them"),
        (hospital(kind="dimse", ae_title="A", host="h", courtesy="{calendar: [{associations: 0}]}"),
         "hospitals[0].node.courtesy: the calendar leaves no hour in which the node may be asked; allow one"),
        (hospital(kind="dicomweb", base_url="http://x", courtesy="{calendar: [{associations: 3}]}"),
         "hospitals[0].node: courtesy.calendar[0].associations: max_associations is 2; write no more, or raise that"),
        (hospital(kind="dimse", ae_title="A", host="h", courtesy="{slowfactor: 3}"),
         "hospitals[0].node.courtesy.slowfactor: unknown key; did you mean slow_factor?"),
        (hospital(kind="dimse", ae_title="NO", host="h"), "hospitals[0].node.ae_title: must be text; put it in quotes"),
        (hospital(kind="dimse", ae_title="ABCDEFGHIJKLMNOPQ", host="h"),
         "hospitals[0].node.ae_title: an AE title has 1 to 16 ASCII characters and no backslash"),
        (hospital(kind="dimse", ae_title="'  '", host="h"),
         "hospitals[0].node.ae_title: an AE title has 1 to 16 ASCII characters and no backslash"),
        (hospital(kind="dimse", ae_title="医院", host="h"),
         "hospitals[0].node.ae_title: an AE title has 1 to 16 ASCII characters and no backslash"),
        (hospital(kind="dimse", ae_title="A", host="h", port="'104'"),
         "hospitals[0].node.port: must be a whole number, without quotes"),
        (hospital(kind="dimse", ae_title="A", host="h", retrieve="push"),
         "hospitals[0].node.retrieve: must be 'get' or 'move'"),
        (hospital(kind="dimse", ae_title="A", host="h", tls="{key: k}"),
         "hospitals[0].node.tls: certificate and key come together"),
        (hospital(kind="foldr", path="x"), "hospitals[0].node: kind must be dimse, dicomweb or folder"),
        (hospital(path="x"), "hospitals[0].node: say its kind: dimse, dicomweb or folder"),
        (hospital(kind="dicomweb", base_url="https://me:pass@x"),
         "hospitals[0].node.base_url: must hold no credentials; name them in auth"),
        (hospital(kind="dicomweb", base_url="https://x", auth="{bearer: abc}"),
         "hospitals[0].node.auth.bearer: write where the secret is, not the secret: env:NAME or file:PATH"),
        (hospital(kind="dicomweb", base_url="https://x", auth="{}"),
         "hospitals[0].node.auth: give either bearer or basic"),
        (hospital(kind="folder", path="x").replace("h1", "H1!"),
         "hospitals[0].hospital_id: must be lower case letters, digits, - and _, at most 32 characters"),
        (hospital(kind="folder", path="x").replace("name_en", "region_code: 32\n        name_en"),
         "hospitals[0].region_code: must be the 6 digits of GB/T 2260, or UNKNOWN"),
        (hospital(kind="folder", path="x").replace("name_en", "level: 三甲\n        name_en"),
         "hospitals[0].level: must be 1, 2 or 3 with S, A, B or C, as in 3A for 三级甲等, or UNKNOWN"),
        (hospital(kind="folder", path="x").replace("name_en", "name_zh: 二\n        name_en"),
         "line 5: the key name_zh is written twice; keep one"),
        ("hospitals: {}", "hospitals: must be a list: each hospital begins with `- hospital_id:`"),
        ("- hospital_id: x", "the file begins with `hospitals:`"),
        ("", "the file begins with `hospitals:`"),
    ],
    ids=["nested typo", "no near name", "a night", "day misspelt", "hour twice", "no hour left", "more than it bears",
         "courtesy typo", "YAML says no is false", "long AE title", "blank AE title", "Chinese AE title",
         "port in quotes", "no such verb", "key alone", "kind misspelt", "no kind", "password in the URL",
         "secret in the file", "no credentials", "odd id", "short region", "level in words", "key twice", "no list",
         "no hospitals", "empty file"],
)  # fmt: skip
def test_what_is_said_of_a_mistake(tmp_path: Path, text: str, problem: str) -> None:
    assert problems_of(written(tmp_path, text)) == [problem]


def test_a_secret_in_the_file_is_not_repeated(tmp_path: Path) -> None:
    text = hospital(kind="dicomweb", base_url="https://x", auth="{bearer: tops3cret}")
    with pytest.raises(ConfigInvalid) as caught:
        load_hospitals(written(tmp_path, text))
    assert "tops3cret" not in str(caught.value)


def test_a_file_that_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "hospitals.yaml"
    path.write_bytes("hospitals: [江苏]".encode("gb18030"))
    assert problems_of(path)[0].startswith("not YAML in UTF-8")


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(SourceMissing):
        load_hospitals(tmp_path / "none.yaml")


def test_the_examples_of_the_guide_are_valid(tmp_path: Path) -> None:
    guide = Path(__file__).resolve().parents[3] / "docs" / "how-to" / "register-a-node.md"
    examples = re.findall(r"```yaml\n(.*?)```", guide.read_text(encoding="utf-8"), flags=re.DOTALL)
    every_kind, courteous = (load_hospitals(written(tmp_path, example)) for example in examples)
    kinds = [hospital.node.retrieve_kind for hospital in every_kind.values()]
    assert kinds == ["c-get", "c-move", "wado-rs", "folder"]
    assert [hospital.node.courtesy.calendar != () for hospital in courteous.values()] == [True]
