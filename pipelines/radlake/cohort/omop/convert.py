"""Tables of a release as tables of OMOP CDM 5.4 and MI-CDM. Pure; the same release gives the same tables.

A person's birth is a year, from the middle of the age band on the release's own calendar. A visit is what a person had
at one site on one day. An exam is a procedure, a series with images an image occurrence, and what its headers tell of
the acquisition its image features, with the value in `measurement`. Findings of reports are observations of the exam: a
report does not say in which series it saw them. Numbers of rows count in the order of the release's pseudonyms.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from radlake.cohort.omop.concepts import NO_CONCEPT, Concepts, concepts_file, record_concept
from radlake.cohort.omop.model import Table, tables
from radlake.cohort.risk import UNKNOWN
from radlake.errors import ConfigInvalid, ContractBroken

__all__ = ["USED", "Converted", "convert"]

# What headers tell of an acquisition: column of a release, DICOM keyword, unit. One value for a series, or none.
_TOLD_BY_SERIES = (("modality", "Modality"), ("body_part_examined", "BodyPartExamined"))
_TOLD_BY_INSTANCE = (
    ("slice_thickness_mm", "SliceThickness", "mm"),
    ("pixel_spacing_row_mm", "PixelSpacing", "mm"),
    ("kvp", "KVP", "kV"),
    ("ctdi_vol_mgy", "CTDIvol", "mGy"),
    ("magnetic_field_t", "MagneticFieldStrength", "T"),
)
_OF_INSTANCE = ("series_instance_uid", "pixel_offset", *(name for name, _, _ in _TOLD_BY_INSTANCE))
# Tables of a release that are told of, and their columns; a release may have millions of instances.
USED: Mapping[str, Sequence[str] | None] = {
    "person": None, "exam": None, "finding": None, "series": None, "instance": _OF_INSTANCE,
}  # fmt: skip


@dataclass(frozen=True)
class Converted:
    """Tables by name, and what they do not hold.

    Attributes
    ----------
    unmapped : dict of str to Counter
        Source values without a concept, by group of schemas/omop/concepts.yaml, or of none that is there.
    left_out : Counter
        What could not be told in OMOP, by reason.
    """

    tables: Mapping[str, pa.Table]
    unmapped: Mapping[str, Counter[str]]
    left_out: Counter[str]


def convert(released: Mapping[str, pa.Table], document: Mapping[str, Any]) -> Converted:
    """Tables of a release in OMOP.

    Parameters
    ----------
    released : mapping
        The tables `USED`, with at least its columns.
    document : mapping
        `release.json`.

    Raises
    ------
    ConfigInvalid
        If the release tells nobody's age: OMOP has no person without a year of birth.
    """
    concepts, left_out = Concepts(), Counter[str]()
    exams = _dated_exams(released["exam"].to_pandas(), left_out)
    persons = _persons(released["person"].to_pandas(), exams, left_out)
    if persons.empty:
        problem = "it tells nobody's age and date of an exam, and OMOP has no person without a year of birth"
        raise ConfigInvalid(path=document["release_id"], problems=[problem])
    n_dated = len(exams)
    exams = exams.merge(persons[["person_pseudo_id", "person_id"]], on="person_pseudo_id")
    left_out["exams of persons left out"] += n_dated - len(exams)
    sites, regions = _sites(exams, persons)
    exams = exams.merge(sites[["site_pseudo_id", "care_site_id"]], on="site_pseudo_id")
    exams = exams.sort_values(["person_id", "study_at", "exam_pseudo_id"], ignore_index=True)
    exams["procedure_occurrence_id"] = exams.index + 1
    exams["visit_occurrence_id"] = exams.groupby(["person_id", "day", "care_site_id"]).ngroup() + 1
    images = _images(released, exams, concepts, left_out)
    told = _told_of(images, left_out)
    made = {
        "location": regions,
        "care_site": sites,
        "person": persons.assign(
            gender_concept_id=concepts.of("sex", persons["patient_sex"]),
            race_concept_id=NO_CONCEPT,
            ethnicity_concept_id=NO_CONCEPT,
            person_source_value=persons["person_pseudo_id"],
            gender_source_value=persons["patient_sex"],
        ),
        "observation_period": _periods(exams),
        "visit_occurrence": _visits(exams),
        "procedure_occurrence": _procedures(exams, concepts),
        "measurement": _measurements(told, concepts),
        "observation": _findings(released["finding"].to_pandas(), exams, concepts, left_out),
        "cdm_source": _source(document),
        "image_occurrence": images,
        "image_feature": _features(told),
    }
    fitted = {name: _fitted(made[name], table, left_out) for name, table in tables().items()}
    return Converted(fitted, {group: found for group, found in concepts.unmapped.items() if found}, +left_out)


def _dated_exams(exams: pd.DataFrame, left_out: Counter[str]) -> pd.DataFrame:
    """Each exam once, in the order of time; a person with two pseudonyms in the lake may have one twice."""
    exams = exams.sort_values(["study_at", "exam_pseudo_id"]).drop_duplicates("exam_pseudo_id")
    left_out["exams without a date"] += _count(exams["study_at"].isna())
    exams = exams.dropna(subset=["study_at"])
    return exams.assign(day=exams["study_at"].dt.normalize())


def _persons(persons: pd.DataFrame, exams: pd.DataFrame, left_out: Counter[str]) -> pd.DataFrame:
    """Who has an age and a dated exam as case or control; OMOP derives the year of birth of age groups, and drops who
    has none.
    """
    first = exams[exams["role"] != "follow_up"].groupby("person_pseudo_id").first()
    persons = persons.join(first[["study_at", "site_pseudo_id"]], on="person_pseudo_id")
    age = (persons["age_from_years"] + persons["age_to_years"]) // 2
    left_out["persons without an age"] += _count(age.isna())
    left_out["persons without a dated index exam"] += _count(age.notna() & persons["study_at"].isna())
    persons["year_of_birth"] = persons["study_at"].dt.year - age
    persons = persons.dropna(subset=["year_of_birth"]).sort_values("person_pseudo_id", ignore_index=True)
    return persons.assign(person_id=persons.index + 1)


def _sites(exams: pd.DataFrame, persons: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Hospitals, and where they are: a release tells the region of the hospital of each person's first index exam."""
    sites = pd.DataFrame({"site_pseudo_id": sorted(exams["site_pseudo_id"].unique())})
    known = persons[persons["region_code"] != UNKNOWN]
    region_of: Any = known.groupby("site_pseudo_id")["region_code"].agg(lambda codes: codes.mode().iat[0])
    region = sites["site_pseudo_id"].map(region_of)
    codes = sorted(region.dropna().unique())
    numbers: Any = {code: number for number, code in enumerate(codes, start=1)}
    sites = sites.assign(
        care_site_id=sites.index + 1,
        location_id=region.map(numbers),
        care_site_source_value=sites["site_pseudo_id"],
    )
    regions = pd.DataFrame({"location_source_value": pd.Series(codes, dtype="str"), "country_source_value": "CN"})
    return sites, regions.assign(location_id=regions.index + 1)


def _periods(exams: pd.DataFrame) -> pd.DataFrame:
    """Of nobody more is known than from the first to the last exam."""
    days = exams.groupby("person_id")["day"].agg(["min", "max"]).reset_index()
    return pd.DataFrame(
        {
            "observation_period_id": days.index + 1,
            "person_id": days["person_id"],
            "observation_period_start_date": days["min"],
            "observation_period_end_date": days["max"],
            "period_type_concept_id": record_concept("ehr"),
        }
    )


def _visits(exams: pd.DataFrame) -> pd.DataFrame:
    visits = exams.groupby("visit_occurrence_id", as_index=False).first()
    return visits.assign(
        visit_concept_id=NO_CONCEPT,
        visit_start_date=visits["day"],
        visit_start_datetime=visits["study_at"],
        visit_end_date=visits["day"],
        visit_type_concept_id=record_concept("ehr"),
    )


def _procedures(exams: pd.DataFrame, concepts: Concepts) -> pd.DataFrame:
    """Source values are LOINC codes where the exam has one, else modality and body part in our words."""
    ours = exams["modality_group"] + " " + exams["body_part_code"]
    source = exams["loinc_code"].where(exams["loinc_code"] != "NONE", ours)
    return exams.assign(
        procedure_concept_id=concepts.of("procedure", source),
        procedure_date=exams["day"],
        procedure_datetime=exams["study_at"],
        procedure_type_concept_id=record_concept("ehr"),
        procedure_source_value=source,
        modifier_source_value=exams["laterality_code"] + " " + exams["contrast_code"],
    )


def _images(
    released: Mapping[str, pa.Table], exams: pd.DataFrame, concepts: Concepts, left_out: Counter[str]
) -> pd.DataFrame:
    """Series with pixels, once each, with the least and the most of what their instances tell."""
    extremes = [(name, how) for name, _, _ in _TOLD_BY_INSTANCE for how in ("min", "max")]
    instances = released["instance"].group_by("series_instance_uid")
    counted = instances.aggregate([("pixel_offset", "count"), *extremes]).to_pandas()
    series = released["series"].to_pandas().drop_duplicates("series_instance_uid")
    series = series.merge(counted, on="series_instance_uid", how="left")
    has_images = series["pixel_offset_count"] > 0
    left_out["series without images"] += _count(~has_images)
    n_images = _count(has_images)
    of_exam = ["exam_pseudo_id", "person_id", "procedure_occurrence_id", "visit_occurrence_id", "study_at", "day",
               "body_part_code"]  # fmt: skip
    images = series[has_images].merge(exams[of_exam], on="exam_pseudo_id")
    left_out["series of exams or persons left out"] += n_images - len(images)
    images = images.sort_values(["procedure_occurrence_id", "series_instance_uid"], ignore_index=True)
    place = images["person_pseudo_id"] + "/" + images["study_instance_uid"] + "/" + images["series_instance_uid"]
    return images.assign(
        image_occurrence_id=images.index + 1,
        image_occurrence_date=images["series_at"].fillna(images["study_at"]).dt.normalize(),
        local_path="dicom/" + place,
        image_study_uid=images["study_instance_uid"],
        image_series_uid=images["series_instance_uid"],
        modality_concept_id=concepts.of("modality", images["modality"]),
        anatomic_site_concept_id=concepts.of("body_part", images["body_part_code"]),
    )


def _told_of(images: pd.DataFrame, left_out: Counter[str]) -> pd.DataFrame:
    """One row for every attribute that a series or its instances tell, and no two otherwise; numbered."""
    of_image = images[["image_occurrence_id", "person_id", "visit_occurrence_id", "day",
                       "anatomic_site_concept_id"]]  # fmt: skip
    told = [
        of_image.assign(keyword=keyword, text=images[column])[images[column].fillna("") != ""]
        for column, keyword in _TOLD_BY_SERIES
    ]
    for column, keyword, unit in _TOLD_BY_INSTANCE:
        least, most = images[f"{column}_min"], images[f"{column}_max"]
        left_out[f"{keyword} that differs within a series"] += _count((least != most)[least.notna()])
        told.append(of_image.assign(keyword=keyword, number=least, unit=unit)[least == most])
    rows: Any = pd.concat(told)
    rows = rows.sort_values("image_occurrence_id", kind="stable", ignore_index=True)
    return rows.assign(measurement_id=rows.index + 1)


def _measurements(told: pd.DataFrame, concepts: Concepts) -> pd.DataFrame:
    """Of the day of the exam: a series that began after midnight would lie outside its visit and observation period."""
    return told.assign(
        measurement_concept_id=concepts.of("dicom_attribute", told["keyword"]),
        measurement_date=told["day"],
        measurement_type_concept_id=record_concept("ehr"),
        value_as_number=told["number"],
        measurement_source_value=told["keyword"],
        unit_source_value=told["unit"],
        value_source_value=told["text"],
    )


def _features(told: pd.DataFrame) -> pd.DataFrame:
    return told.assign(
        image_feature_id=told["measurement_id"],
        image_feature_event_field_concept_id=record_concept("measurement"),
        image_feature_event_id=told["measurement_id"],
        image_feature_concept_id=NO_CONCEPT,
        image_feature_type_concept_id=record_concept("ehr"),
    )


def _findings(findings: pd.DataFrame, exams: pd.DataFrame, concepts: Concepts, left_out: Counter[str]) -> pd.DataFrame:
    """Told by source value alone: under the concept of a disease, one that a report rules out would count as one."""
    rows = findings.drop(columns="person_pseudo_id").merge(exams, on="exam_pseudo_id")
    left_out["findings of exams or persons left out"] += len(findings) - len(rows)
    rows = rows.sort_values(["procedure_occurrence_id", "finding_code", "certainty_code"], ignore_index=True)
    return rows.assign(
        observation_id=rows.index + 1,
        observation_concept_id=concepts.of("finding", rows["finding_code"]),
        observation_date=rows["day"],
        observation_datetime=rows["study_at"],
        observation_type_concept_id=record_concept("ehr"),
        value_as_string=rows["certainty_code"],
        observation_source_value=rows["finding_code"],
        value_source_value=rows["certainty_code"],
        observation_event_id=rows["procedure_occurrence_id"],
        obs_event_field_concept_id=record_concept("procedure_occurrence"),
    )


def _source(document: Mapping[str, Any]) -> pd.DataFrame:
    approval = document["approval"]
    approved_on = pd.Timestamp(approval["approved_at"][:10])
    row = {
        "cdm_source_name": document["title"]["en"],
        "cdm_source_abbreviation": "radlake",
        "cdm_holder": approval["holder"],
        "source_description": (
            f"Release {document['release_id']} for {approval['purpose']}, under {approval['licence']}, until"
            f" {approval['expires_on']}; questions: {document['contact']}. Dates of each person are moved by one number"
            " of days; pseudonyms and UIDs are the project's own."
        ),
        "source_documentation_reference": document["release_id"],
        "source_release_date": approved_on,
        "cdm_release_date": approved_on,
        "cdm_version": "v5.4",
        "cdm_version_concept_id": record_concept("cdm"),
        "vocabulary_version": f"radlake {concepts_file()['version']}",
    }
    return pd.DataFrame([row])


def _count(holds: Any) -> int:
    return int(holds.sum())


def _fitted(frame: pd.DataFrame, table: Table, left_out: Counter[str]) -> pa.Table:
    """The columns of a table in its types; a text that is too long is cut, and that is told.

    Raises
    ------
    ContractBroken
        If a value is missing that must be there.
    """
    arrays = []
    for column in table.columns:
        values: Any = frame[column.name] if column.name in frame else np.full(len(frame), None)
        if column.longest and column.name in frame:
            cut = values.str.slice(0, column.longest)
            left_out[f"ends of {table.name}.{column.name}"] += _count((cut != values)[values.notna()])
            values = cut
        arrays.append(pa.array(values, type=column.arrow.type, from_pandas=True))
        if column.is_required and arrays[-1].null_count:
            problem = f"{column.name} is missing in {arrays[-1].null_count} rows"
            raise ContractBroken(table=table.name, problems=[problem])
    return pa.Table.from_arrays(arrays, schema=table.arrow)
