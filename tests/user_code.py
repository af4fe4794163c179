"""What a type checker sees of names that are loaded lazily. `mypy` reads it; nothing runs it."""

from typing import assert_type

import cma
from cma.training import RunRecord
from explorer import MediaIndex


def adapt(folder: str) -> RunRecord:
    model = cma.RetrievalModel.from_pretrained("mini")
    dataset = cma.load_dataset(folder, "train")
    record = cma.train(model, dataset, cma.TrainConfig(epochs=1))
    assert_type(model, cma.RetrievalModel)
    assert_type(dataset, cma.data.RetrievalDataset)
    assert_type(record, RunRecord)
    assert_type(MediaIndex.build(model, folder), MediaIndex)
    return record
