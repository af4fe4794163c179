"""The nine benchmarks by name, each with its description, reader and options."""

from data_prep.benchmarks import (
    activitynet,
    coco,
    didemo,
    flickr30k,
    msrvtt,
    msvd,
    remote_sensing,
    vatex,
)
from data_prep.benchmarks.forms import Benchmark

BENCHMARKS: dict[str, Benchmark] = {
    "flickr30k": flickr30k.BENCHMARK,
    "coco": coco.BENCHMARK,
    "rsicd": remote_sensing.RSICD,
    "rsitmd": remote_sensing.RSITMD,
    "msrvtt": msrvtt.BENCHMARK,
    "msvd": msvd.BENCHMARK,
    "vatex": vatex.BENCHMARK,
    "didemo": didemo.BENCHMARK,
    "activitynet": activitynet.BENCHMARK,
}
