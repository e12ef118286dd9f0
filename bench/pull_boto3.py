"""boto3's transfer manager: `python pull_boto3.py ENDPOINT BUCKET PREFIX OUT ACCESS_KEY SECRET_KEY`.

A program of its own for the interpreter of `bench/peers.lock`. It says `ready`, waits for a line, downloads everything
below PREFIX as boto3 does by itself (`download_file`), all objects at once, and tells how many.
"""

import sys
from pathlib import Path

import boto3  # pyright: ignore[reportMissingImports]
from boto3.s3.transfer import TransferConfig, create_transfer_manager  # pyright: ignore[reportMissingImports]


def main() -> None:
    endpoint, bucket, prefix, out, access_key, secret_key = sys.argv[1:]
    given = {"aws_access_key_id": access_key, "aws_secret_access_key": secret_key, "region_name": "us-east-1"}
    client = boto3.client("s3", endpoint_url=endpoint, **given)
    print("ready", flush=True)
    sys.stdin.readline()
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    keys = [entry["Key"] for page in pages for entry in page["Contents"]]
    with create_transfer_manager(client, TransferConfig()) as manager:
        under_way = []
        for key in keys:
            target = Path(out) / key.removeprefix(prefix)
            target.parent.mkdir(parents=True, exist_ok=True)
            under_way.append(manager.download(bucket, key, str(target)))
        for one in under_way:
            one.result()
    print(len(keys))


main()
