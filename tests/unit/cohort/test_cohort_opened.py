"""A release in Python: slices in their order in space, nothing read before it is asked for, results that come home."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
import pytest
from pydicom.sr.codedict import codes

import radlake
from radlake.cohort.opened import Algorithm, LazyVolume, Measurement, NotAVolume, OpenCohort, Segment
from radlake.cohort.opened.sources import StoreSource
from radlake.cohort.pull import Manifest, open_release, pull
from radlake.config import Settings
from radlake.errors import ConfigInvalid, SourceMissing
from support.cohorts import approved, built_everybody, lake_of_cts, released, write_cts
from support.dicom import ct_study, write
from support.pulling import TODAY

ALGORITHM = Algorithm("thresholder", "1.2", {"hu": "100"})
ATTENUATION = codes.DCM.AttenuationCoefficient
LUNG = Segment("Lung", codes.SCT.Organ, codes.SCT.Lung)


@dataclass(frozen=True)
class Held:
    """A release, what was pulled of it, and its identifiers."""

    settings: Settings
    folder: Path
    release_id: str


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Held:
    """Series with slices from the feet up, from the head down, and one with a gap."""
    folder = tmp_path_factory.mktemp("opened")
    archive = write_cts(folder / "in", persons=5, slices=5)
    for path in archive.glob("1-*.dcm"):
        ds = pydicom.dcmread(path)
        ds.ImagePositionPatient[2] = -ds.ImagePositionPatient[2]
        ds.save_as(path)
    gap = ct_study(n=5, patient_id="P0002", study="gap", accession="G1", birth_date="19600101", seed=77)
    for number, ds in enumerate(gap[:2] + gap[3:]):
        write(ds, archive / f"gap-{number}.dcm")
    settings = lake_of_cts(folder, archive)
    made = released(settings, built_everybody(settings))
    approved(settings, made.release_id)
    release = open_release(settings, made.release_id, today=TODAY)
    assert pull(release, folder / "home", manifest=Manifest(made.release_id)).is_complete
    return Held(settings, folder / "home", made.release_id)


@pytest.fixture
def cohort(held: Held, tmp_path: Path) -> OpenCohort:
    return radlake.open_cohort(held.folder, results=tmp_path / "results")


def whole_series(held: Held) -> list[str]:
    table = radlake.open_cohort(held.folder).series
    return table[table["n_instances"] == 5]["series_instance_uid"].to_list()


def truth(held: Held, uid: str) -> hd.Volume:
    """highdicom's own way, of all files of a series in any order."""
    paths = sorted((held.folder / "dicom").glob(f"*/*/{uid}/*.dcm"))
    return hd.get_volume_from_series([pydicom.dcmread(path) for path in paths])


def test_tables_are_frames(cohort: OpenCohort) -> None:
    told = cohort.source.document["tables"]
    for name, frame in (("person", cohort.persons), ("exam", cohort.exams), ("instance", cohort.instances)):
        assert len(frame) == told[name]["n_rows"]
    counts = cohort.dask("instance").groupby("series_instance_uid").size().compute()
    assert sorted(counts) == [4, 5, 5, 5, 5, 5]
    assert set(cohort.exams["person_pseudo_id"]) == set(cohort.persons["person_pseudo_id"])
    with pytest.raises(ConfigInvalid, match="no table patient"):
        cohort.pandas("patient")


def test_a_volume_is_what_highdicom_makes_of_the_files(held: Held, cohort: OpenCohort) -> None:
    directions = set()
    for uid in whole_series(held):
        volume, true = cohort.volume(uid), truth(held, uid)
        assert volume.shape == true.spatial_shape == (5, 16, 16)
        np.testing.assert_allclose(volume.affine, true.affine)
        np.testing.assert_array_equal(volume.array.compute(), true.array)
        assert volume.spacing_mm == pytest.approx(true.spacing)
        assert volume.loaded.geometry_equal(true)
        numbers = [int(head.InstanceNumber) for head in volume.headers]
        directions.add(tuple(np.sign(np.diff(numbers))))
    assert len(directions) == 2  # by place, whichever way instance numbers go


def test_from_the_store_it_is_the_same_and_only_headers_are_read_before(held: Held, tmp_path: Path) -> None:
    far = radlake.open_cohort(held.release_id, lake=held.settings.lake)
    assert isinstance(far.source, StoreSource)
    store, read = far.source.release.store, list[int]()

    class Counting:
        def __getattr__(self, name: str) -> Any:
            return getattr(store, name)

        def read(self, name: str, *, offset: int, length: int) -> bytes:
            read.append(length if name.startswith("objects/") else 0)
            return store.read(name, offset=offset, length=length)

    counted = OpenCohort(StoreSource(replace(far.source.release, store=Counting())))  # type: ignore[arg-type]
    uid = whole_series(held)[0]
    rows = counted.instances[counted.instances["series_instance_uid"] == uid]
    volume = counted.volume(uid)
    assert sum(read) == rows["pixel_offset"].sum() < rows["instance_bytes"].sum()
    volume.array[2].compute()
    assert sum(read) - rows["pixel_offset"].sum() == rows["instance_bytes"].iloc[0]  # one slice, one read
    np.testing.assert_array_equal(volume.array.compute(), truth(held, uid).array)
    with pytest.raises(ConfigInvalid, match="results=FOLDER"):
        _ = far.results


def test_series_zips_are_as_good_as_a_tree(held: Held, tmp_path: Path) -> None:
    release = open_release(held.settings, held.release_id, today=TODAY)
    pull(release, tmp_path, manifest=Manifest(held.release_id), layout="zip")
    uid = whole_series(held)[0]
    np.testing.assert_array_equal(radlake.open_cohort(tmp_path).volume(uid).array.compute(), truth(held, uid).array)
    shutil.rmtree(tmp_path / "zip")
    with pytest.raises(SourceMissing, match="pull it as dicom or zip"):
        radlake.open_cohort(tmp_path).volume(uid)


def test_a_gap_is_told_and_its_images_can_be_had(cohort: OpenCohort) -> None:
    [uid] = cohort.series[cohort.series["n_instances"] == 4]["series_instance_uid"]
    with pytest.raises(NotAVolume, match="not equally far apart"):
        cohort.volume(uid)
    assert [image.shape for image in cohort.images(uid)] == [(16, 16)] * 4
    assert uid not in {volume.series_uid for volume in cohort.volumes()}
    assert len(list(cohort.volumes())) == 5
    with pytest.raises(ConfigInvalid, match="no series"):
        cohort.volume("1.2.3")


def test_samples_have_length_items_and_an_order_of_their_seed(cohort: OpenCohort) -> None:
    samples = cohort.samples(seed=3, transform=lambda sample: sample["series_instance_uid"])
    assert len(samples) == 5
    once, again, next_epoch = list(samples), list(samples), list(samples.at_epoch(1))
    assert once == again
    assert sorted(once) == sorted(next_epoch)
    assert once != next_epoch
    shards = [set(samples.shard(number, 2)) for number in range(2)]
    assert shards[0] | shards[1] == set(once)
    assert not shards[0] & shards[1]
    sample = cohort.samples()[0]
    assert (sample["image"].shape, sample["image"].dtype) == ((1, 5, 16, 16), np.float32)
    assert (sample["modality_group"], sample["patient_sex"], sample["modality"]) == ("CT", "M", "CT")


def some_volume(held: Held, cohort: OpenCohort) -> LazyVolume:
    return cohort.volume(whole_series(held)[0])


def test_a_segmentation_comes_home_in_its_place(held: Held, cohort: OpenCohort) -> None:
    volume = some_volume(held, cohort)
    mask = np.zeros(volume.shape, dtype=np.uint8)
    mask[1:3, 4:9, 2:5] = 1
    mask[4, 0:2, 0:2] = 2
    made = cohort.results.segmentation(
        volume, mask, segments=[LUNG, Segment("Node", LUNG.category, LUNG.type)], algorithm=ALGORITHM
    )
    read = hd.seg.segread(made.path)
    back = read.get_volume(combine_segments=True).match_geometry(volume.geometry)
    np.testing.assert_array_equal(back.array, mask)
    assert (read.PatientID, read.StudyInstanceUID) == (volume.headers[0].PatientID, volume.headers[0].StudyInstanceUID)
    assert read.get_segment_description(1).algorithm_identification.version == "1.2"
    referred = {one.ReferencedSOPInstanceUID for one in read.ReferencedSeriesSequence[0].ReferencedInstanceSequence}
    assert referred <= set(cohort.instances["sop_instance_uid"])
    with pytest.raises(ConfigInvalid) as caught:
        cohort.results.segmentation(volume, mask[3:], segments=[LUNG], algorithm=ALGORITHM)
    assert "(5, 16, 16)" in str(caught.value)
    assert "1 segments are named" in str(caught.value)


def test_a_parametric_map_keeps_values_and_unit(held: Held, cohort: OpenCohort) -> None:
    volume = some_volume(held, cohort)
    values = volume.array.compute() / 7
    made = cohort.results.parametric_map(
        volume, values, quantity=ATTENUATION, unit=codes.UCUM.HounsfieldUnit, label="density", algorithm=ALGORITHM
    )
    read = hd.pm.ParametricMap.from_dataset(pydicom.dcmread(made.path))
    back = read.get_volume(dtype=np.float32).match_geometry(volume.geometry)
    np.testing.assert_allclose(back.array, values, rtol=1e-6)
    values[0, 0, 0] = np.nan
    with pytest.raises(ConfigInvalid, match="no finite numbers"):
        cohort.results.parametric_map(
            volume, values, quantity=ATTENUATION, unit=codes.UCUM.HounsfieldUnit, label="x", algorithm=ALGORITHM
        )


def test_measurements_come_home_by_tid_1500_and_everything_is_catalogued(held: Held, cohort: OpenCohort) -> None:
    volume = some_volume(held, cohort)
    measured = Measurement(codes.SCT.Volume, 12.5, codes.UCUM.CubicMillimeter)
    made = cohort.results.measurements(volume, [measured], label="lung", finding=codes.SCT.Lung, algorithm=ALGORITHM)
    report = hd.sr.srread(made.path)
    [group] = report.content.get_image_measurement_groups() or report.content.get_planar_roi_measurement_groups()
    [value] = group.get_measurements()
    assert (value.value, value.unit, value.name) == (12.5, codes.UCUM.CubicMillimeter, codes.SCT.Volume)
    mask = np.ones(volume.shape, dtype=np.uint8)
    cohort.results.segmentation(volume, mask, segments=[LUNG], algorithm=ALGORITHM)
    catalogue = cohort.results.catalogue()
    assert sorted(catalogue["kind"]) == ["measurements", "segmentation"]
    assert set(catalogue["source_series_instance_uid"]) == {volume.series_uid}
    assert set(catalogue["release_digest"]) == {cohort.source.document["approval"]["digest"]}
    assert catalogue["algorithm"][0] == {"name": "thresholder", "version": "1.2", "parameters": {"hu": "100"}}
    assert set(map(len, catalogue["source_sop_instance_uids"])) == {5}
