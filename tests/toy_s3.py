"""An S3 of our own, in a thread of this process."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import pytest


@contextmanager
def serving_s3() -> Iterator[str]:
    """The address of a folder in a bucket of its own, which the environment says how to reach."""
    boto3, server = pytest.importorskip("boto3"), pytest.importorskip("moto.server")
    running = server.ThreadedMotoServer(port=0)
    running.start()
    host, port = running.get_host_and_port()
    found = {
        "AWS_ENDPOINT": f"http://{host}:{port}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "somebody",
        "AWS_SECRET_ACCESS_KEY": "secret",
    }
    with mock.patch.dict(os.environ, found):
        client = boto3.client("s3", endpoint_url=found["AWS_ENDPOINT"], region_name="us-east-1")
        client.create_bucket(Bucket="bucket")
        yield "s3://bucket/photos"
    running.stop()
