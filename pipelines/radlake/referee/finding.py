"""What the referee found: rule, place and kind, never the value itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["RULES", "Finding", "Report"]

# rule -> what it means, (en, zh). A rule is the name that errors, logs, quarantine and reports share.
RULES = {
    "identifier-in-element": ("an original identifier can be read in an element", "数据元素中可读出原始标识"),
    "identifier-in-bulk": ("an original identifier can be read in binary data", "二进制数据中可读出原始标识"),
    "identifier-in-codestream": (
        "an original identifier can be read in a comment of compressed pixels",
        "压缩像素的注释段中可读出原始标识",
    ),
    "identifier-in-name": (
        "an original identifier can be read in a file or object name",
        "文件名或对象名中可读出原始标识",
    ),
    "identifier-in-archive": (
        "an original identifier can be read between the members of a ZIP",
        "ZIP 结构中可读出原始标识",
    ),
    "identifier-in-table": ("an original identifier can be read in a table", "表中可读出原始标识"),
    "identifier-in-file": ("an original identifier can be read in another file", "其他文件中可读出原始标识"),
    "telltale": ("text that looks like an identity number, a telephone number or a name", "疑似身份证号、电话或姓名"),
    "must-be-removed": ("the table says X and the attribute is there", "应删除（X）的属性仍存在"),
    "must-be-empty": ("the table says Z and the attribute has a value", "应置空（Z）的属性仍有值"),
    "value-kept": ("the table says Z, D or U and the original value is still there", "应替换的原始值仍保留"),
    "private-attribute": ("a private attribute that no list of safe ones names", "未列入安全清单的私有属性"),
    "unknown-attribute": ("an attribute that neither standard nor profile knows", "标准或方案未知的属性"),
    "not-a-pseudonym": ("a name or patient identifier that is no pseudonym", "姓名或患者标识不是假名"),
    "uid-invalid": ("a UID breaks PS3.5 9.1", "UID 不合规"),
    "uid-split": ("one original UID has two replacements: a reference dangles", "同一 UID 被替换为两个值，引用失效"),
    "uid-merged": ("two original UIDs have one replacement", "两个 UID 被替换为同一个值"),
    "person-split": ("one study is shifted or named as two persons", "同一检查被当作两个人"),
    "date-kept": ("a date or time is the original one", "日期或时间未平移"),
    "date-offset": ("a date or time moved by another offset than the person's others", "日期或时间的平移量不一致"),
    "age-over-90": ("an age above 90 years", "年龄超过 90 岁"),
    "markers": ("the object does not say how it was de-identified", "缺少去标识化标记"),
    "preamble": ("the preamble is not zero", "文件前导非零"),
    "file-meta": ("the file meta information tells more than it may, or contradicts the data set", "文件元信息不合规"),
    "trailing-bytes": ("bytes behind the data set or the pixels", "数据集或像素之后有多余字节"),
    "pixels-changed": ("pixels differ outside what was blackened", "涂黑区域之外的像素被改变"),
    "unreadable": ("what was written cannot be read, so nobody can vouch for it", "写出的内容无法读取"),
    "conformance": ("dciodvfy finds more errors than in the original", "dciodvfy 报告的错误多于原始文件"),
    "row-differs": ("a row of a table does not equal its object", "表中的行与对象不符"),
}


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One violation.

    Attributes
    ----------
    rule : str
        One of RULES.
    where : str
        File, object or table; withheld when the name itself holds an identifier.
    path : str
        Within it: `(0040,A730)[3]>(0040,A160)`, a column, a comment segment.
    kind : str
        Kind of the identifier (name, id, uid, date, ...) or the action that was expected.
    encoding : str
        How the identifier was written: ascii, gb18030, utf-16-le, base64, pinyin, ...
    """

    rule: str
    where: str
    path: str = ""
    kind: str = ""
    encoding: str = ""


@dataclass
class Report:
    """What was looked at, and every finding."""

    findings: list[Finding] = field(default_factory=list)
    looked_at: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)  # what could not be judged, by reason

    @property
    def is_clean(self) -> bool:
        return not self.findings

    @property
    def by_rule(self) -> Counter[str]:
        return Counter(finding.rule for finding in self.findings)

    def add(self, findings: Iterable[Finding]) -> None:
        """Enter findings, each place once."""
        known = set(self.findings)
        for finding in findings:
            if finding not in known:
                known.add(finding)
                self.findings.append(finding)

    def to_json(self) -> dict[str, Any]:
        return {
            "is_clean": self.is_clean,
            "looked_at": dict(sorted(self.looked_at.items())),
            "by_rule": dict(sorted(self.by_rule.items())),
            "notes": dict(sorted(self.notes.items())),
            "findings": [asdict(finding) for finding in sorted(self.findings)],
        }
