"""Hospitals and their nodes: YAML under review, checked as a whole.

A node says where a hospital's images are and how to ask for them. Asking is done in `dimse` and `dicomweb`; a folder
is read by the harvest itself. Secrets are references (`env:NAME`, `file:PATH`), resolved at use.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Hashable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    ValidationError,
    model_validator,
)
from pydicom.datadict import tag_for_keyword

from radlake.errors import ConfigInvalid, SourceMissing
from radlake.net.courtesy import Courtesy, Hours
from radlake.net.parts import AETitle, ConfigModel, LocalPath, SecretRef, Tls
from radlake.net.push import CloseRule, Listener, Push

__all__ = [
    "Auth",
    "DimseNode",
    "FolderNode",
    "Hospital",
    "Node",
    "PushNode",
    "Timeouts",
    "Tls",
    "WebNode",
    "load_hospitals",
]


def _base_url(value: str) -> str:
    url = urlsplit(value)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValueError("must begin with https:// or http://")
    if url.username or url.password:
        raise ValueError("must hold no credentials; name them in auth")
    if url.query or url.fragment:
        raise ValueError("must have no ? and no #")
    return value.rstrip("/")


def _digits(value: Any) -> Any:
    return f"{value:06d}" if isinstance(value, int) and not isinstance(value, bool) else value


Seconds = Annotated[float, Field(gt=0, le=86_400)]


class Timeouts(ConfigModel):
    """How many seconds of silence end a conversation; a long transfer that keeps flowing is never cut."""

    connect: Seconds = 10
    query: Seconds = 60
    retrieve: Seconds = 300


class Auth(ConfigModel):
    """Where the credentials of a web node are: a bearer token, or `user:password` for basic authentication."""

    bearer: SecretRef | None = None
    basic: SecretRef | None = None

    @model_validator(mode="after")
    def _one_of_them(self) -> Auth:
        if (self.bearer is None) == (self.basic is None):
            raise ValueError("give either bearer or basic")
        return self


class _AskedNode(ConfigModel):
    """What is asked over a network, and may be asked too much.

    Attributes
    ----------
    max_associations : int
        Conversations with it at once, at any hour.
    courtesy : Courtesy
        When it may be asked and how much; at any hour, as long as it keeps its usual speed, when left out.
    """

    timeouts: Timeouts = Timeouts()
    max_associations: int = Field(default=2, ge=1, le=64, strict=True)
    courtesy: Courtesy = Courtesy()

    @model_validator(mode="after")
    def _no_more_than_it_bears(self) -> _AskedNode:
        for n, line in enumerate(self.courtesy.calendar):
            if (line.associations or 0) > self.max_associations:
                most = f"max_associations is {self.max_associations}"
                raise ValueError(f"courtesy.calendar[{n}].associations: {most}; write no more, or raise that")
        return self


class DimseNode(_AskedNode):
    """A DICOM application entity: C-ECHO, C-FIND, and C-GET or C-MOVE.

    Attributes
    ----------
    name : str
        What messages call the node; the hospital's id in a file.
    retrieve : {"get", "move"}
        C-GET brings the images over our own connection; C-MOVE makes the node connect to our storage SCP.
    query_model : {"study", "patient"}
        Study Root, or Patient Root for a node that has no other (PS3.4 C.6).
    move_port : int, optional
        Port of our storage SCP for this node, when it is not the one of the settings.
    """

    kind: Literal["dimse"] = "dimse"
    name: str = "node"
    ae_title: AETitle
    host: str = Field(min_length=1)
    port: int = Field(default=104, ge=1, le=65_535, strict=True)
    retrieve: Literal["get", "move"] = "get"
    query_model: Literal["study", "patient"] = "study"
    move_port: int | None = Field(default=None, ge=1, le=65_535, strict=True)
    tls: Tls | None = None

    @property
    def retrieve_kind(self) -> str:
        """As in `ops.harvest_run`."""
        return f"c-{self.retrieve}"

    @property
    def address(self) -> str:
        return f"{self.ae_title}@{self.host}:{self.port}"


class WebNode(_AskedNode):
    """An origin server of DICOMweb: QIDO-RS and WADO-RS below `base_url` (PS3.18)."""

    kind: Literal["dicomweb"] = "dicomweb"
    name: str = "node"
    base_url: Annotated[str, AfterValidator(_base_url)]
    auth: Auth | None = None
    tls: Tls | None = None

    @property
    def retrieve_kind(self) -> str:
        return "wado-rs"

    @property
    def address(self) -> str:
        return self.base_url


class FolderNode(ConfigModel):
    """A folder of Part-10 files: an export, a disk from the archive."""

    kind: Literal["folder"] = "folder"
    name: str = "node"
    path: LocalPath

    @property
    def retrieve_kind(self) -> str:
        return "folder"

    @property
    def address(self) -> str:
        return str(self.path)


class PushNode(ConfigModel):
    """Nobody to ask: the hospital pushes to `radlake receive`, and has no node that answers us."""

    kind: Literal["push"] = "push"
    name: str = "node"

    @property
    def retrieve_kind(self) -> str:
        return "push"

    @property
    def address(self) -> str:
        return "(it pushes to us)"


Node = Annotated[DimseNode | WebNode | FolderNode | PushNode, Field(discriminator="kind")]


class RetentionRule(ConfigModel):
    """What a value of an attribute says at this hospital: outpatient or inpatient.

    `matches` is a regular expression for the whole value, whatever its case.
    """

    keyword: str
    matches: str
    retention_class: Literal["outpatient", "inpatient"] = Field(alias="class")

    @model_validator(mode="after")
    def _can_be_used(self) -> RetentionRule:
        if tag_for_keyword(self.keyword) is None:
            raise ValueError(f"{self.keyword} is no DICOM keyword")
        try:
            re.compile(self.matches)
        except re.error as exc:
            raise ValueError(f"matches: {exc}") from exc
        return self


class Hospital(ConfigModel):
    """A contributing hospital (OMOP care site, FHIR Organization), its node, and how it pushes.

    Attributes
    ----------
    hospital_id : str
        Key everywhere, and a folder name in the object store: letters, digits, `-` and `_`.
    region_code : str
        GB/T 2260 code of the county or district, or UNKNOWN.
    level : str
        Grade of the hospital: 3A is 三级甲等; or UNKNOWN.
    storage_policy : {"central", "index"}
        central: pixels come into our store; index: metadata and a pointer only, and pixels are fetched from the
        hospital when somebody asks for them (docs/adr/0022-pixels-that-stay-at-the-hospital.md).
    retention : tuple of RetentionRule
        What this hospital's headers say of the retention class, beside schemas/retention/schedule.yaml.
    """

    hospital_id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$")
    name_zh: str = Field(min_length=1)
    name_en: str = Field(min_length=1)
    region_code: Annotated[str, BeforeValidator(_digits)] = Field(default="UNKNOWN", pattern=r"^([1-9]\d{5}|UNKNOWN)$")
    level: str = Field(default="UNKNOWN", pattern=r"^([123][SABC]?|UNKNOWN)$")
    storage_policy: Literal["central", "index"] = "central"
    node: Node
    push: Push | None = None
    retention: tuple[RetentionRule, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _name_the_node(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        node = {"kind": "push"} if "push" in data and "node" not in data else data.get("node")
        if isinstance(node, Mapping):
            return {**data, "node": {"name": data.get("hospital_id", "node"), **node}}
        return data

    @model_validator(mode="after")
    def _reachable(self) -> Hospital:
        if self.node.kind == "push" and self.push is None:
            raise ValueError("a hospital without a node pushes to us: say in push: who sends")
        if self.node.kind == "push" and self.storage_policy == "index":
            raise ValueError("storage_policy index needs a node that pixels can be fetched from again")
        return self


class _File(ConfigModel):
    hospitals: Annotated[list[Hospital], BeforeValidator(lambda given: [] if given is None else given)]


def load_hospitals(path: Path) -> dict[str, Hospital]:
    """Read a YAML file of hospitals, or every `*.yaml` and `*.yml` in a folder.

    Returns
    -------
    dict
        Hospitals by hospital_id, in the order of the files.

    Raises
    ------
    ConfigInvalid
        With every problem of every file, each with its place and its remedy.
    SourceMissing
        If there is nothing at `path`.
    """
    if not path.exists():
        raise SourceMissing(path=path)
    files = sorted(p for p in path.iterdir() if p.suffix in (".yaml", ".yml")) if path.is_dir() else [path]
    hospitals: dict[str, Hospital] = {}
    places: dict[str, str] = {}
    problems: list[str] = []
    for file in files:
        prefix = f"{file.name}: " if path.is_dir() else ""
        try:
            content = yaml.load(file.read_text(encoding="utf-8"), Loader=_StrictLoader)
        except (yaml.YAMLError, UnicodeDecodeError) as exc:
            problems.append(prefix + _yaml_problem(exc))
            continue
        for n, hospital_id in _hospital_ids(content):
            place = f"{prefix}hospitals[{n}].hospital_id"
            if (first := places.setdefault(hospital_id, place)) != place:
                problems.append(f"{place}: {hospital_id} is taken by {first}; choose another")
        try:
            read = _File.model_validate(content, context={"base": file.parent}).hospitals
        except ValidationError as exc:
            problems.extend(prefix + problem for problem in _problems(exc, content))
        else:
            hospitals.update((hospital.hospital_id, hospital) for hospital in read)
    if problems:
        raise ConfigInvalid(path=path, problems=problems)
    return hospitals


def _hospital_ids(content: Any) -> Iterator[tuple[int, str]]:
    """Position and id of each entry as written, so that a twin is told even when something else is wrong."""
    entries = content.get("hospitals") if isinstance(content, Mapping) else None
    for n, entry in enumerate(entries if isinstance(entries, list) else []):
        if isinstance(entry, Mapping) and isinstance(hospital_id := entry.get("hospital_id"), str):
            yield n, hospital_id


class _StrictLoader(yaml.CSafeLoader):  # in Python it takes seconds for a province
    """Refuses a key that is written twice: the last one would win in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key_node, _ in node.value:
            if key_node.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key_node.value} is written twice; keep one", key_node.start_mark
                )
            seen.add(key_node.value)
        return super().construct_mapping(node, deep)


def _yaml_problem(exc: yaml.YAMLError | UnicodeDecodeError) -> str:
    if isinstance(exc, yaml.MarkedYAMLError) and exc.problem_mark:
        return f"line {exc.problem_mark.line + 1}: {exc.problem}"
    return f"not YAML in UTF-8 ({exc})"


_NODES: dict[str, type[ConfigModel]] = {
    "dimse": DimseNode,
    "dicomweb": WebNode,
    "folder": FolderNode,
    "push": PushNode,
}
_PARTS: dict[str, type[BaseModel]] = {
    "tls": Tls,
    "timeouts": Timeouts,
    "auth": Auth,
    "push": Push,
    "close": CloseRule,
    "commitment": Listener,
    "courtesy": Courtesy,
    "calendar": Hours,
}

_REMEDIES = {
    "missing": "is required",
    "string_type": "must be text; put it in quotes",
    "int_type": "must be a whole number, without quotes",
    "union_tag_invalid": "kind must be dimse, dicomweb or folder",
    "union_tag_not_found": "say its kind: dimse, dicomweb or folder",
    "list_type": "must be a list: each hospital begins with `- hospital_id:`",
    "model_type": "must be a mapping of keys and values",
    "model_attributes_type": "must be a mapping of keys and values",
    "dict_type": "must be a mapping of keys and values",
}

_FORMS = {
    "hospital_id": "lower case letters, digits, - and _, at most 32 characters",
    "region_code": "the 6 digits of GB/T 2260, or UNKNOWN",
    "level": "1, 2 or 3 with S, A, B or C, as in 3A for 三级甲等, or UNKNOWN",
}


def _problems(exc: ValidationError, content: Any) -> Iterator[str]:
    for error in exc.errors(include_url=False, include_input=False):
        loc = list(error["loc"])
        if "node" in loc and len(loc) > (at := loc.index("node") + 1) and loc[at] in _NODES:
            del loc[at]  # pydantic names the chosen kind; the file does not
        kind, message = error["type"], error["msg"]
        if kind == "model_type" and not loc:
            message = "the file begins with `hospitals:`"
        elif kind == "extra_forbidden":
            message = _unknown_key(loc, content)
        elif kind == "string_pattern_mismatch" and loc[-1] in _FORMS:
            message = f"must be {_FORMS[str(loc[-1])]}"
        else:
            message = _REMEDIES.get(kind, message.removeprefix("Value error, ").replace("Input should", "must"))
        yield f"{_place(loc)}: {message}" if loc else message


def _place(loc: list[int | str]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).removeprefix(".")


def _unknown_key(loc: list[int | str], content: Any) -> str:
    *parents, key = loc
    model: type[BaseModel] = Hospital if parents else _File
    for part in parents:
        content = content[part]
        if part == "node":
            model = _NODES[content.get("kind", "dimse")]
        elif part in _PARTS:
            model = _PARTS[str(part)]
    known = [name for name in model.model_fields if name != "name"]
    near = difflib.get_close_matches(str(key), known, n=1)
    return f"unknown key; did you mean {near[0]}?" if near else f"unknown key; known are {', '.join(known)}"
