"""What catalogues of research data read of a release: Croissant 1.1, RO-Crate 1.3 and DataCite 4.5. Pure.

All three follow from the document of an approved release and lie beside it. A release has no address that everybody can
open: files are named as they lie in the folder that its holder pulled, and whom to ask stands where others have a URL.
Sources: mlcommons.org/croissant 1.1 with RAI 1.0, w3id.org/ro/crate/1.3, schema.datacite.org kernel-4.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from radlake.cohort.columns import RELEASED, ReleasedColumn

__all__ = ["METADATA", "metadata_files"]

METADATA = ("croissant.json", "ro-crate-metadata.json", "datacite.json")
_PARQUET = "application/x-parquet"  # what mlcroissant reads
_PUBLISHER = "radlake"
_TYPES = {"VARCHAR": "sc:Text", "BOOLEAN": "sc:Boolean", "DOUBLE": "sc:Float", "TIMESTAMP": "sc:DateTime",
          "DATE": "sc:Date"}  # fmt: skip
_CONTEXT: Mapping[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "conformsTo": "dct:conformsTo",
    **{
        name: f"cr:{name}"
        for name in (
            "citeAs", "column", "equivalentProperty", "extract", "field", "fileProperty", "fileObject", "fileSet",
            "format", "includes", "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet",
            "references", "regex", "repeated", "replace", "samplingRate", "separator", "source", "subField",
            "transform",
        )
    },
}  # fmt: skip


def metadata_files(release: Mapping[str, Any]) -> dict[str, bytes]:
    """Name and content of each; `release` is the document that its holder gets."""
    made = (_croissant(release), _ro_crate(release), _datacite(release))
    return {
        name: (json.dumps(content, ensure_ascii=False, indent=1, sort_keys=True) + "\n").encode()
        for name, content in zip(METADATA, made, strict=True)
    }


def _description(release: Mapping[str, Any]) -> str:
    risk = release["risk"]
    return (
        f"{release['title']['en']}. {release['n_persons']:,} persons, {release['n_exams']:,} exams,"
        f" {release['n_series']:,} series, {release['n_instances']:,} DICOM instances. De-identified by DICOM PS3.15"
        " Annex E; pseudonyms, UIDs and dates are those of one project, intervals between dates are true."
        f" Quasi-identifiers are k-anonymous (k = {risk['k']})."
    )


def _citation(release: Mapping[str, Any]) -> str:
    return f"{release['title']['en']}. Release {release['release_id']}, {_day(release)[:4]}. {release['contact']}."


def _day(release: Mapping[str, Any]) -> str:
    return release["approval"]["approved_at"][:10]


def _croissant(release: Mapping[str, Any]) -> dict[str, Any]:
    tables = release["tables"]
    files = [
        {
            "@type": "cr:FileObject",
            "@id": f"{name}.parquet",
            "name": f"{name}.parquet",
            "contentUrl": f"tables/{name}.parquet",
            "contentSize": f"{tables[name]['bytes']} B",
            "encodingFormat": _PARQUET,
            "sha256": tables[name]["sha256"],
        }
        for name in sorted(tables)
    ]
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": ["http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0"],
        "name": re.sub(r"[^A-Za-z0-9_-]", "_", release["release_id"]),
        "alternateName": release["title"]["zh"],
        "description": _description(release),
        "license": release["approval"]["licence"],
        "creator": {"@type": "sc:Organization", "name": release["contact"]},
        "url": f"urn:radlake:release:{release['release_id']}",
        "datePublished": _day(release),
        "version": f"{release['definition']['version']}.0.0",
        "citeAs": _citation(release),
        "isLiveDataset": False,
        "distribution": files,
        "recordSet": [_record_set(name) for name in sorted(tables) if name in RELEASED],
        "rai:dataCollection": "Clinical imaging examinations, harvested from hospitals; nothing was done for research.",
        "rai:dataBiases": "Who is examined is not a sample of residents: hospitals and persons choose.",
        "rai:personalSensitiveInformation": [
            f"Sex, age bands of {release['risk']['age_width']} years and places of {release['risk']['region_digits']}"
            " digits; coded findings; pixels as they were made. Re-identification is forbidden."
        ],
        "rai:dataUseCases": release["approval"]["purpose"],
    }


def _record_set(name: str) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "field": [_field(name, column) for column in RELEASED[name]],
    }


def _field(table: str, column: ReleasedColumn) -> dict[str, Any]:
    kind = column.type.removesuffix("[]")
    return {
        "@type": "cr:Field",
        "@id": f"{table}/{column.name}",
        "name": column.name,
        "description": column.description,
        "dataType": _TYPES.get(kind, "sc:Integer"),
        "source": {"fileObject": {"@id": f"{table}.parquet"}, "extract": {"column": column.name}},
        **({"repeated": True} if column.type != kind else {}),
    }


def _ro_crate(release: Mapping[str, Any]) -> dict[str, Any]:
    tables, approval = release["tables"], release["approval"]
    files = [
        {
            "@id": f"tables/{name}.parquet",
            "@type": "File",
            "name": f"Table {name}",
            "description": f"{tables[name]['n_rows']:,} rows; croissant.json describes the columns.",
            "encodingFormat": _PARQUET,
            "contentSize": str(tables[name]["bytes"]),
            "sha256": tables[name]["sha256"],
        }
        for name in sorted(tables)
    ]
    document = {
        "@id": "release.json",
        "@type": "File",
        "name": "Release",
        "description": "What is held, for which purpose, under which licence and until when.",
        "encodingFormat": "application/json",
    }
    parts = [*files, document]
    licence, contact, office = {"@id": "#licence"}, {"@id": "#contact"}, {"@id": "#contact-point"}
    identifier = {"@id": "#identifier"}
    return {
        "@context": "https://w3id.org/ro/crate/1.3/context",
        "@graph": [
            {
                "@id": "ro-crate-metadata.json",
                "@type": "CreativeWork",
                "about": {"@id": "./"},
                "conformsTo": {"@id": "https://w3id.org/ro/crate/1.3"},
            },
            {
                "@id": "./",
                "@type": "Dataset",
                "identifier": identifier,
                "name": release["title"]["en"],
                "alternateName": release["title"]["zh"],
                "description": _description(release),
                "datePublished": _day(release),
                "expires": approval["expires_on"],
                "license": licence,
                "author": contact,
                "publisher": contact,
                "contactPoint": office,
                "creditText": _citation(release),
                "usageInfo": approval["purpose"],
                "hasPart": [{"@id": part["@id"]} for part in parts],
            },
            *parts,
            {**licence, "@type": "CreativeWork", "name": approval["licence"], "description": approval["licence"]},
            {
                **identifier,
                "@type": "PropertyValue",
                "name": "Release",
                "propertyID": "radlake release",
                "value": release["release_id"],
            },
            {**contact, "@type": "Organization", "name": release["contact"], "contactPoint": office},
            {**office, "@type": "ContactPoint", "name": release["contact"], "contactType": "data access"},
        ],
    }


def _datacite(release: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "schemaVersion": "http://datacite.org/schema/kernel-4",
        "types": {"resourceType": "Imaging cohort", "resourceTypeGeneral": "Dataset"},
        "titles": [
            {"title": release["title"]["en"], "lang": "en"},
            {"title": release["title"]["zh"], "titleType": "TranslatedTitle", "lang": "zh"},
        ],
        "creators": [{"name": release["contact"], "nameType": "Organizational"}],
        "publisher": {"name": _PUBLISHER},
        "publicationYear": _day(release)[:4],
        "dates": [
            {"date": _day(release), "dateType": "Issued"},
            {"date": f"{_day(release)}/{release['approval']['expires_on']}", "dateType": "Valid"},
        ],
        "alternateIdentifiers": [
            {"alternateIdentifier": release["release_id"], "alternateIdentifierType": "radlake release"}
        ],
        "descriptions": [{"description": _description(release), "descriptionType": "Abstract", "lang": "en"}],
        "rightsList": [{"rights": release["approval"]["licence"]}],
        "sizes": [f"{release['n_bytes']} B", f"{release['n_instances']} instances"],
        "formats": ["application/dicom", _PARQUET],
        "version": str(release["definition"]["version"]),
    }
