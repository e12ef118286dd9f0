"""Our storage SCP as a process of its own, to be killed: FOLDER STUDY_UID PORT. It receives until then."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from radlake.net.delivery import Delivery
from radlake.net.instance_files import InstanceFolder
from radlake.net.storage_scp import receiving


def main(folder: str, study_uid: str, port: str) -> None:
    delivery = Delivery(InstanceFolder(Path(folder)), due=None)
    with receiving(
        study_uid, delivery=delivery, ae_title="RADLAKE", host="127.0.0.1", port=int(port), timeout=30, tls=None
    ):
        print("listening", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
