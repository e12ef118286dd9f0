"""What was found comes home as DICOM, written by highdicom: segmentations, measurements (TID 1500), parametric maps,
key images.

    FOLDER/PERSON/STUDY/INSTANCE.dcm     the object
    FOLDER/PERSON/STUDY/INSTANCE.json    where it comes from: release, series, instances, algorithm, parameters

The catalogue of a folder is made of those files, so there is nothing that can disagree with them. An object appears
after its provenance, and is in no catalogue without it.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pandas as pd
import xxhash
from highdicom import ko, sr
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from radlake.cohort.opened.volumes import LazyVolume
from radlake.cohort.pull.targets import place_whole
from radlake.cohort.results.provenance import PROVENANCE, provenance_text
from radlake.errors import ConfigInvalid

__all__ = ["Algorithm", "Measurement", "Result", "ResultStore", "Segment"]

_MANUFACTURER = "radlake"
_SERIES_NUMBER = 9001
# What says that the images were de-identified, and how (PS3.15 E.1.1).
_MARKS = ("PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence",
          "LongitudinalTemporalInformationModified")  # fmt: skip


@dataclass(frozen=True)
class Algorithm:
    """What made a result: its name and version are in the object and in the catalogue.

    Attributes
    ----------
    family : Code
        Of CID 7162; artificial intelligence when left out.
    """

    name: str
    version: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    family: Code = field(default_factory=lambda: codes.DCM.ArtificialIntelligence)

    def identification(self) -> hd.AlgorithmIdentificationSequence:
        return hd.AlgorithmIdentificationSequence(
            name=self.name, family=self.family, version=self.version, parameters=dict(self.parameters) or None
        )


@dataclass(frozen=True)
class Segment:
    """One value of a mask (1, 2, ... in the order given): what it is, in codes."""

    label: str
    category: Code
    type: Code


@dataclass(frozen=True)
class Measurement:
    """A number with its unit (UCUM), as `Measurement(codes.SCT.Volume, 12.5, codes.UCUM.CubicMillimeter)`."""

    name: Code
    value: float
    unit: Code


@dataclass(frozen=True)
class Result:
    """An object that was written."""

    kind: str
    path: Path
    sop_instance_uid: str
    provenance: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True)
class ResultStore:
    """A folder of results of one release."""

    folder: Path
    release: Mapping[str, Any] = field(repr=False)

    def segmentation(
        self, volume: LazyVolume, mask: np.ndarray, *, segments: Sequence[Segment], algorithm: Algorithm
    ) -> Result:
        """Write a DICOM SEG (binary).

        Parameters
        ----------
        mask : numpy.ndarray of integers
            In the shape of the volume; 0 is background, n the n-th segment.

        Raises
        ------
        ConfigInvalid
            If the mask has another shape, or values of no segment.
        """
        problems = _shape_problems(mask, volume)
        if mask.dtype.kind not in "bui":
            problems.append(f"the mask is of {mask.dtype}; whole numbers are needed")
        elif mask.size and (int(mask.max()) > len(segments) or int(mask.min()) < 0):
            problems.append(f"the mask goes from {mask.min()} to {mask.max()}, and {len(segments)} segments are named")
        _refuse("The segmentation", problems)
        descriptions = [
            hd.seg.SegmentDescription(
                segment_number=number,
                segment_label=one.label,
                segmented_property_category=one.category,
                segmented_property_type=one.type,
                algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
                algorithm_identification=algorithm.identification(),
            )
            for number, one in enumerate(segments, 1)
        ]
        with _pseudonyms_are_no_names():
            made = hd.seg.Segmentation(
                source_images=volume.headers,
                pixel_array=volume.geometry.with_array(mask.astype(np.uint8)),
                segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
                segment_descriptions=descriptions,
                **self._equipment(algorithm),
            )
        return self._write("segmentation", made, volume, algorithm)

    def parametric_map(
        self,
        volume: LazyVolume,
        values: np.ndarray,
        *,
        quantity: Code,
        unit: Code,
        label: str,
        algorithm: Algorithm,
    ) -> Result:
        """Write a DICOM parametric map of 32-bit floats, with quantity and unit in codes.

        Raises
        ------
        ConfigInvalid
            If the values have another shape than the volume, or are not finite.
        """
        problems = _shape_problems(values, volume)
        values = values.astype(np.float32)
        if not np.isfinite(values).all():
            problems.append("it has values that are no finite numbers")
        _refuse("The parametric map", problems)
        width = max(float(np.ptp(values)), 1e-6)
        window = hd.VOILUTTransformation(window_center=float(values.min()) + width / 2, window_width=width)
        mapping = hd.pm.RealWorldValueMapping(
            lut_label=label[:16],
            lut_explanation=label[:64],
            unit=unit,
            value_range=(float(values.min()), float(values.max())),
            slope=1,
            intercept=0,
            quantity_definition=quantity,
        )
        with _pseudonyms_are_no_names():
            made = hd.pm.ParametricMap(
                source_images=volume.headers,
                pixel_array=volume.geometry.with_array(values),
                contains_recognizable_visual_features=False,
                real_world_value_mappings=[mapping],
                voi_lut_transformations=[window],
                **self._equipment(algorithm),
            )
        return self._write("parametric_map", made, volume, algorithm)

    def measurements(
        self,
        volume: LazyVolume,
        measurements: Sequence[Measurement],
        *,
        label: str,
        finding: Code | None = None,
        algorithm: Algorithm,
    ) -> Result:
        """Write measurements of a series as a Comprehensive 3D SR by TID 1500 (one group, TID 1501).

        Raises
        ------
        ConfigInvalid
            If there is none.
        """
        _refuse("The report", [] if measurements else ["it has no measurement"])
        device = sr.DeviceObserverIdentifyingAttributes(
            uid=hd.UID(), name=algorithm.name, manufacturer_name=_MANUFACTURER, model_name=algorithm.name
        )
        context = sr.ObservationContext(
            observer_device_context=sr.ObserverContext(
                observer_type=codes.DCM.Device, observer_identifying_attributes=device
            )
        )
        method = sr.AlgorithmIdentification(
            name=algorithm.name,
            version=algorithm.version,
            parameters=[f"{name}={value}" for name, value in algorithm.parameters.items()] or None,
        )
        group = sr.MeasurementsAndQualitativeEvaluations(
            tracking_identifier=sr.TrackingIdentifier(uid=hd.UID(), identifier=label),
            finding_type=finding,
            algorithm_id=method,
            source_images=[sr.SourceImageForMeasurementGroup.from_source_image(head) for head in volume.headers],
            measurements=[sr.Measurement(name=one.name, value=one.value, unit=one.unit) for one in measurements],
        )
        report = sr.MeasurementReport(
            observation_context=context,
            procedure_reported=codes.LN.CTUnspecifiedBodyRegion if _is_ct(volume) else codes.SCT.ImagingProcedure,
            imaging_measurements=[group],
        )
        with _pseudonyms_are_no_names():
            made = sr.Comprehensive3DSR(
                evidence=list(volume.headers),
                content=report,
                is_complete=True,
                is_verified=False,
                **self._document(algorithm),
            )
        return self._write("measurements", made, volume, algorithm)

    def key_images(
        self,
        volume: LazyVolume,
        slices: Sequence[int],
        *,
        title: Code = codes.DCM.OfInterest,
        description: str = "",
        algorithm: Algorithm,
    ) -> Result:
        """Write a Key Object Selection of some slices of a series, which viewers mark as key images.

        Parameters
        ----------
        slices : sequence of int
            Indices of the volume, 0 is the first in space.
        title : Code
            Why they were chosen, of CID 7010: Of Interest, For Teaching, Best In Set, ...

        Raises
        ------
        ConfigInvalid
            If there is none, or one that the volume does not have.
        """
        chosen = sorted({int(one) for one in slices})
        problems = [] if chosen else ["it has no slice"]
        problems += [
            f"there is no slice {one} of {volume.shape[0]}" for one in chosen if not 0 <= one < volume.shape[0]
        ]
        _refuse("The selection of key images", problems)
        heads = [volume.headers[one] for one in chosen]
        device = sr.DeviceObserverIdentifyingAttributes(
            uid=hd.UID(), name=algorithm.name, manufacturer_name=_MANUFACTURER, model_name=algorithm.name
        )
        observer = sr.ObserverContext(observer_type=codes.DCM.Device, observer_identifying_attributes=device)
        content = ko.KeyObjectSelection(
            document_title=title,
            referenced_objects=heads,
            observer_device_context=observer,
            description=description or None,
        )
        with _pseudonyms_are_no_names():
            made = ko.KeyObjectSelectionDocument(evidence=heads, content=content, **self._document(algorithm))
        return self._write("key_images", made, volume, algorithm)

    def catalogue(self) -> pd.DataFrame:
        """Every result of this folder with its provenance, oldest first."""
        rows = []
        for path in self.folder.glob("*/*/*.json"):
            if path.with_suffix(".dcm").is_file():
                rows.append(json.loads(path.read_text(encoding="utf-8")))
        order = sorted(rows, key=lambda row: (row["created_at"], row["sop_instance_uid"]))
        return pd.DataFrame(order, columns=PROVENANCE)

    def _equipment(self, algorithm: Algorithm) -> dict[str, Any]:
        return {
            "series_instance_uid": hd.UID(),
            "series_number": _SERIES_NUMBER,
            "sop_instance_uid": hd.UID(),
            "instance_number": 1,
            "manufacturer": _MANUFACTURER,
            "manufacturer_model_name": algorithm.name,
            "software_versions": algorithm.version,
            "device_serial_number": self.release["release_id"][-64:],
        }

    def _document(self, algorithm: Algorithm) -> dict[str, Any]:
        """Of documents, which tell no model of a machine."""
        no_words = ("manufacturer_model_name", "software_versions", "device_serial_number")
        return {name: value for name, value in self._equipment(algorithm).items() if name not in no_words}

    def _write(self, kind: str, made: Dataset, volume: LazyVolume, algorithm: Algorithm) -> Result:
        for keyword in _MARKS:  # highdicom copies some of them, into some objects
            if keyword in volume.headers[0] and keyword not in made:
                made[keyword] = volume.headers[0][keyword]
        buffer = BytesIO()
        made.save_as(buffer, enforce_file_format=True)
        content, uid = buffer.getvalue(), str(made.SOPInstanceUID)
        told = {
            "kind": kind,
            "sop_instance_uid": uid,
            "sop_class_uid": str(made.SOPClassUID),
            "series_instance_uid": str(made.SeriesInstanceUID),
            "study_instance_uid": str(made.StudyInstanceUID),
            "person_pseudo_id": str(made.PatientID),
            "source_series_instance_uid": volume.series_uid,
            "source_object_digest": volume.row["object_digest"],
            "source_sop_instance_uids": [str(head.SOPInstanceUID) for head in volume.headers],
            "release_id": self.release["release_id"],
            "release_digest": self.release["approval"]["digest"],
            "algorithm": {name: value for name, value in asdict(algorithm).items() if name != "family"},
            "software": f"highdicom {hd.__version__}",
            "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "digest": xxhash.xxh3_128_hexdigest(content),
        }
        path = self.folder / str(made.PatientID) / str(made.StudyInstanceUID) / f"{uid}.dcm"
        place_whole(path.with_suffix(".json"), provenance_text(told).encode())
        place_whole(path, content)
        return Result(kind, path, uid, told)


@contextmanager
def _pseudonyms_are_no_names() -> Iterator[None]:
    """highdicom warns of a Patient's Name of one component, and it has to be that of the source."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The string .* is unlikely to represent the intended person name")
        yield


def _is_ct(volume: LazyVolume) -> bool:
    return volume.row["modality"] == "CT"


def _shape_problems(array: np.ndarray, volume: LazyVolume) -> list[str]:
    if array.shape == tuple(volume.shape):
        return []
    return [f"its shape is {array.shape}, and the volume's is {tuple(volume.shape)} (slices, rows, columns)"]


def _refuse(what: str, problems: list[str]) -> None:
    if problems:
        raise ConfigInvalid(path=what, problems=problems)
