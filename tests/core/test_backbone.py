import json
import logging

import pytest
import torch
from PIL import Image
from transformers import CLIPModel

from cma.backbone import check_tokenizer, identity, load_backbone
from cma.model import RetrievalModel
from tests.conftest import EOS, build_clip, change_json, one_line, same_state


def edit(file, change):
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def test_a_folder_loads_whole_and_quietly(
    clip_folder, toy_clip, toy_processor, capfd, recwarn, caplog
):
    with caplog.at_level(logging.WARNING):
        clip, processor = load_backbone(clip_folder)
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list and not caplog.records
    assert not clip.training and {p.dtype for p in clip.parameters()} == {torch.float32}
    assert same_state(clip.state_dict(), toy_clip.state_dict())
    texts = ["a red cat", "Zebra!"]
    assert processor.tokenizer(texts)["input_ids"] == toy_processor.tokenizer(texts)["input_ids"]
    picture = Image.linear_gradient("L").convert("RGB").resize((80, 50))
    pixels = [
        p.image_processor(images=[picture], return_tensors="pt")["pixel_values"]
        for p in (processor, toy_processor)
    ]
    assert pixels[0].shape == (1, 3, 32, 32) and torch.equal(*pixels)
    RetrievalModel(clip, processor).encode_text(texts)


@pytest.mark.parametrize("device", ["cuda:99", "gpu", "meta:x"])
def test_a_device_that_is_not_there_is_named_before_anything_is_loaded(device):
    with one_line(ValueError, f"device '{device}' cannot be used here .*; expected 'cpu', or") as e:
        load_backbone("nobody/no-clip", device=device)
    assert len(str(e.value)) < 300


@pytest.mark.parametrize("dtype", ["bf16", "cat", 16, torch.int8, None])
def test_a_precision_that_is_none_is_named_before_anything_is_loaded(dtype):
    with one_line(ValueError, "^dtype=.*: expected torch.float32"):
        load_backbone("nobody/no-clip", dtype=dtype)


def test_precision_is_chosen_at_loading_and_identity_tells_other_weights_apart(
    clip_folder, toy_clip
):
    first = identity(load_backbone(clip_folder)[0])
    assert first["name"] == str(clip_folder) and len(first["revision"]) == 12
    assert identity(load_backbone(clip_folder)[0]) == first
    toy_clip.half().save_pretrained(clip_folder)
    clip, _ = load_backbone(clip_folder)
    assert {p.dtype for p in clip.parameters()} == {torch.float32}
    assert identity(clip)["revision"] != first["revision"]
    model = RetrievalModel.from_pretrained(str(clip_folder), dtype=torch.bfloat16, device="cpu")
    assert model.dtype == model.encode_text(["a cat"]).dtype == torch.bfloat16


def unreachable(*_, **__):
    raise ConnectionError("no route")


def test_folders_without_a_whole_clip(clip_folder, tmp_path):
    (tmp_path / "empty").mkdir()
    for name in ("./nowhere", "/no/such/folder", "a/b/c", tmp_path / "empty"):  # no hub ids
        with pytest.raises(FileNotFoundError, match="no model there; expected 'mini', "):
            load_backbone(name)
    state = build_clip().state_dict()
    del state["visual_projection.weight"]
    build_clip().save_pretrained(clip_folder, state_dict=state)
    with pytest.raises(ValueError, match=r"1 weights.*visual_projection\.weight"):
        load_backbone(clip_folder)
    (clip_folder / "model.safetensors").write_bytes(
        (clip_folder / "model.safetensors").read_bytes()[:1000]
    )
    with pytest.raises(ValueError, match="its weights are damaged"):
        load_backbone(clip_folder)
    change_json(clip_folder / "config.json", model_type="clip_text_model")
    with pytest.raises(ValueError, match="'clip_text_model'; expected a CLIP"):
        load_backbone(clip_folder)


def test_a_backbone_of_which_a_part_was_not_downloaded_is_fetched_again(
    toy_clip, toy_processor, tmp_path, monkeypatch
):
    """`hf download` was interrupted: the index of the shards is there, and a shard is not."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    cached, commit = tmp_path / "hub" / "models--some--clip", "0" * 40
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text(commit)
    folder = cached / "snapshots" / commit
    toy_clip.save_pretrained(folder, max_shard_size="50KB")
    toy_processor.save_pretrained(folder)
    first, *others = sorted(folder.glob("model-*.safetensors"))
    monkeypatch.setattr(
        "huggingface_hub.model_info", lambda *a, **k: pytest.fail("the hub was asked")
    )
    assert others and identity(load_backbone("some/clip")[0])["revision"] == commit
    monkeypatch.setattr("huggingface_hub.model_info", unreachable)
    index = folder / "model.safetensors.index.json"
    for damage in (first.unlink, lambda: index.write_text("{")):
        damage()
        with pytest.raises(OSError, match="nor a hub model that can be loaded: no route"):
            load_backbone("some/clip")


def pooled_position(clip: CLIPModel, ids: torch.Tensor) -> int:
    """Where the text tower takes its embedding, seen from outside."""
    out = clip.text_model(input_ids=ids)
    return int((out.last_hidden_state[0] - out.pooler_output[0]).abs().sum(-1).argmin())


def test_a_tokenizer_of_ours_with_eos_2_is_refused(toy_processor, clip_folder):
    """The words after the one of highest id would never be seen: shown, then refused."""
    tokenizer = toy_processor.tokenizer
    clip = build_clip(eos_token_id=2)  # the legacy value means the highest id
    ids = torch.tensor(tokenizer(["a red cat"])["input_ids"])
    check_tokenizer(clip, tokenizer)
    assert pooled_position(clip, ids) == pooled_position(build_clip(), ids) == ids.shape[1] - 1
    # words are higher
    low = torch.cat([torch.tensor([[1]]), ids[:, 1:-1], torch.tensor([[2]])], dim=1)
    assert pooled_position(clip, low) < low.shape[1] - 1

    def swap(content):  # give EOS the id 2 and an ordinary token the id 499
        vocabulary = content["model"]["vocab"]
        other = next(token for token, index in vocabulary.items() if index == 2)
        vocabulary["<eos>"], vocabulary[other] = 2, EOS
        for token in content["added_tokens"]:
            token["id"] = vocabulary[token["content"]]
        content["post_processor"]["special_tokens"]["<eos>"]["ids"] = [2]

    edit(clip_folder / "tokenizer.json", swap)
    for eos, said in (
        (2, "never be seen. Give EOS another id than 2"),
        (77, "eos_token_id is 77, .* id 2"),
    ):
        edit(
            clip_folder / "config.json",
            lambda content, eos=eos: content["text_config"].update(eos_token_id=eos),
        )
        with pytest.raises(ValueError, match=said):
            load_backbone(clip_folder)


def test_tokenizers_of_another_model_are_refused(toy_clip, toy_processor, clip_folder):
    toy_clip.config.text_config.vocab_size = 300
    with pytest.raises(ValueError, match="only 300 ids"):
        RetrievalModel(toy_clip, toy_processor)
    change_json(clip_folder / "tokenizer.json", post_processor=None)
    with pytest.raises(ValueError, match="does not end a caption"):
        load_backbone(clip_folder)


def test_the_layout_of_openais_repositories(tmp_path):
    """Old files: vocab.json, merges.txt, preprocessor_config.json with bare sizes; and the legacy
    EOS 2.
    """
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    vocabulary = [*letters, *(f"{letter}</w>" for letter in letters), "ca", "cat</w>"]
    vocabulary += ["<|startoftext|>", "<|endoftext|>"]  # the two highest ids
    (tmp_path / "vocab.json").write_text(
        json.dumps({token: i for i, token in enumerate(vocabulary)})
    )
    (tmp_path / "merges.txt").write_text("#version: 0.2\nc a\nca t</w>\n")
    names = {
        "bos_token": "<|startoftext|>",
        **dict.fromkeys(("eos_token", "unk_token", "pad_token"), "<|endoftext|>"),
    }
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({**names, "tokenizer_class": "CLIPTokenizer"})
    )
    (tmp_path / "special_tokens_map.json").write_text(json.dumps(names))
    pixels = {
        "crop_size": 32,
        "size": 32,
        "resample": 3,
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
    }
    pixels |= {"do_resize": True, "do_center_crop": True, "do_normalize": True}
    pixels |= {"feature_extractor_type": "CLIPFeatureExtractor"}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(pixels))
    clip = build_clip(eos_token_id=2)
    clip.config.text_config.vocab_size = len(vocabulary)
    clip.text_model.embeddings.token_embedding = torch.nn.Embedding(len(vocabulary), 32)
    clip.save_pretrained(tmp_path)

    model = RetrievalModel(*load_backbone(tmp_path))
    sos, eos = len(vocabulary) - 2, len(vocabulary) - 1
    ids, _ = model.tokenize(["Cat", "a cat"])
    assert ids.tolist() == [[sos, 53, eos, eos], [sos, 26, 53, eos]]
    assert [pooled_position(model.clip, row[None]) for row in ids] == [2, 3]
    assert model.encode_images([Image.new("RGB", (40, 90))]).shape == (1, 32)
