"""A store that errs, and a gateway that restarts: ridden out or told, and the next run mends all."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from radlake.commit_points import listening
from radlake.config import Settings
from support.faults import Once, harvest, harvest_or_tell, outcome
from support.faulty_proxy import FaultyProxy, Kind
from support.rgw import Rgw

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
_MUTATING = frozenset({"PUT", "POST", "DELETE"})
_READING = frozenset({"GET", "HEAD"})


@pytest.fixture(scope="module")
def proxy(rgw: Rgw) -> Iterator[FaultyProxy]:
    with FaultyProxy(rgw.endpoint_url) as proxy:
        yield proxy


def s3_settings(rgw: Rgw, folder: Path, *, endpoint_url: str) -> Settings:
    settings = Settings(
        lake=f"{rgw.bucket()}/lake",
        restricted=folder / "restricted",
        s3_endpoint_url=endpoint_url,
        s3_access_key=rgw.options.access_key,
        s3_secret_key=rgw.options.secret_key,
        workers=0,
    )
    (settings.prepare_restricted() / "root.key").write_text("5f" * 32)
    return settings


@pytest.mark.rgw
@pytest.mark.parametrize("kind", ["500", "503", "reset", "lost answer"])
@pytest.mark.parametrize("methods", [_MUTATING, _READING], ids=["writing", "reading"])
def test_a_store_that_errs_now_and_then(
    kind: Kind,
    methods: frozenset[str],
    rgw: Rgw,
    proxy: FaultyProxy,
    small_archive: Path,
    whole_lake: Settings,
    tmp_path: Path,
):
    proxy.heal()
    settings = s3_settings(rgw, tmp_path, endpoint_url=proxy.endpoint_url)
    proxy.fail(kind, methods=methods, share=0.2)
    told = harvest_or_tell(settings, small_archive)
    n_injected = sum(proxy.injected.values())
    proxy.heal()
    harvest(settings, small_archive)
    print(f"{kind}: {n_injected} faults, {told or 'ridden out'}")
    assert n_injected > 0
    assert "Nothing was lost" in told or not told
    assert outcome(settings) == outcome(whole_lake)


@pytest.mark.rgw
@pytest.mark.parametrize("point", ["object.stored", "batch.dicom.instance", "batch.settled"])
def test_a_gateway_that_is_killed_and_restarted(
    point: str, rgw: Rgw, small_archive: Path, whole_lake: Settings, tmp_path: Path
):
    settings = s3_settings(rgw, tmp_path, endpoint_url=rgw.endpoint_url)
    restarts: list[threading.Thread] = []

    def restart() -> None:
        time.sleep(1)
        rgw.start_gateway()

    def kill() -> None:
        rgw.kill_gateway()
        restarts.append(threading.Thread(target=restart))
        restarts[0].start()

    with listening(Once(point, kill)):
        told = harvest_or_tell(settings, small_archive)
    restarts[0].join()
    print(told or "ridden out")
    harvest(settings, small_archive)
    assert outcome(settings) == outcome(whole_lake)
