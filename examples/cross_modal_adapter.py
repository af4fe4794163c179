"""The Cross-Modal Adapter in one file: the paper from data to recall, read from top to bottom.

    python examples/cross_modal_adapter.py data/mini-flickr30k

trains for an epoch in five minutes of one core. `--backbone` takes a CLIP's folder or hub id. `cma`
computes the same and loads what is saved; it adds resuming, GPUs, micro-batches, video, search, …
"""

import argparse
import json
import math
from hashlib import sha256
from pathlib import Path

import torch
from PIL import Image, ImageOps
from safetensors.torch import save_file
from torch.nn import functional as F
from transformers import AutoProcessor, CLIPModel

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("data", type=Path, help="metadata.jsonl, and pictures or folders of frames")
parser.add_argument("--backbone", default=f"{Path(__file__).resolve().parents[1]}/cma/mini_clip")
parser.add_argument("--out", type=Path, default="runs/one-file", help="where the adapter is saved")
for name, default in {"epochs": 1, "batch-size": 128, "lr": 0.01, "seed": 42}.items():
    parser.add_argument(f"--{name}", type=type(default), default=default)
args = parser.parse_args()
if not (args.data / "metadata.jsonl").is_file():
    parser.error(f"{args.data}: no metadata.jsonl there; python -m data_prep makes such a folder")

# Data: a line is an item, {"file_name": …, "captions": […], "split": "train", "val" or "test"}.
items = [json.loads(line) for line in (args.data / "metadata.jsonl").open(encoding="utf-8")]
train, test = ([item for item in items if item["split"] == split] for split in ("train", "test"))

# CLIP, frozen. T texts, V clips (a picture is one of one frame), F frames, D width of embeddings.
clip = CLIPModel.from_pretrained(args.backbone, dtype=torch.float32).requires_grad_(False)
processor = AutoProcessor.from_pretrained(args.backbone, backend="pil")
processor.tokenizer.model_max_length = min(32, clip.config.text_config.max_position_embeddings)


def embed(items):
    captions = [caption for item in items for caption in item["captions"]]
    clips = []
    for path in [args.data / item["file_name"] for item in items]:
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        if len(files) > 12:
            files = [files[i * (len(files) - 1) // 11] for i in range(12)]  # evenly spread
        clips.append([ImageOps.exif_transpose(Image.open(file)).convert("RGB") for file in files])
    inputs = processor(sum(clips, []), captions, padding=True, truncation=True, return_tensors="pt")
    texts = clip.text_projection(clip.text_model(inputs["input_ids"]).pooler_output)
    frames = clip.visual_projection(clip.vision_model(inputs["pixel_values"]).pooler_output)
    return texts, frames.split([len(pictures) for pictures in clips])  # [T, D], V × [F, D]


# Similarity: a text is compared with a clip's mean frame, weighted by how well each frame fits it.
def similarity(texts, clips, temperature=5.0):
    pooled = ((texts @ frames.T / temperature).softmax(dim=1) @ frames for frames in clips)
    return torch.stack([F.cosine_similarity(texts, one) for one in pooled], dim=1)  # [T, V]


# Recall: a rank is 1 + the number of wrong answers that score as high as the right one, or higher.
@torch.no_grad()
def evaluate(name):
    batches = [test[i : i + args.batch_size] for i in range(0, len(test), args.batch_size)]
    texts, clips = zip(*map(embed, batches), strict=True)
    cosines = similarity(torch.cat(texts), sum(clips, ()))
    own = torch.block_diag(*[torch.ones(len(item["captions"]), 1) for item in test]) == 1  # [T, V]
    right, wrong = cosines.masked_fill(~own, -torch.inf), cosines.masked_fill(own, -torch.inf)
    for axis, way in (1, "text-to-visual"), (0, "visual-to-text"):
        ranks = 1 + (wrong >= right.amax(axis, keepdim=True)).sum(axis)
        recall = [100 * (ranks <= k).double().mean() for k in (1, 5, 10)]
        print("{}: {} R@1 {:.1f} %, R@5 {:.1f} %, R@10 {:.1f} %".format(name, way, *recall))


# Adapter: at each site, the attention or the MLP of a layer, the output z of width W becomes
# z + up(act(down(z))). `down` is W -> r, `up` is r -> W; s rows of `up` are shared by both towers.
def adapt(tower, site, z):
    h = F.linear(z, adapter[f"{tower}.down_weight"][site], adapter[f"{tower}.down_bias"][site])
    h = h * torch.sigmoid(1.702 * h)  # CLIP's own activation
    both = 2 * ((site // 2 + 1) * deepest // sites[tower] - 1) + site % 2  # `site` at equal depth
    up_weight = torch.cat([adapter[f"{tower}.up_weight"][site], adapter["shared_weight"][both]])
    up_bias = torch.cat([adapter[f"{tower}.up_bias"][site], adapter["shared_bias"][both]])
    return z + F.linear(h, up_weight, up_bias)


evaluate("zero-shot")
sites, widths = {"vision": 0, "text": 0}, {}
for name, module in clip.named_modules():
    if name.endswith(("self_attn.out_proj", "mlp.fc2")):
        tower = name.split("_")[0]
        module.register_forward_hook(lambda _, x, z, at=(tower, sites[tower]): adapt(*at, z))
        widths[tower] = module.out_features
        sites[tower] += 1
r, s, deepest = 8, 16, max(sites.values())
shapes = {"shared": (deepest, s, r)}
for tower, count in sites.items():
    shapes[f"{tower}.down"] = (count, r, widths[tower])
    shapes[f"{tower}.up"] = (count, widths[tower] - s, r)

torch.manual_seed(args.seed)
adapter = {}
for name, shape in shapes.items():
    weight = torch.empty(shape, requires_grad=True)
    adapter[f"{name}_weight"] = torch.nn.init.trunc_normal_(weight, std=0.01)
    adapter[f"{name}_bias"] = torch.zeros(shape[:2], requires_grad=True)
n = sum(value.numel() for value in adapter.values())
print(f"trained: {n:,} numbers, {100 * n / clip.num_parameters():.2f} % of CLIP's")

# Training: an epoch sees each item once, with one of its captions. The rate rises, then falls.
weights, biases = ([adapter[f"{name}_{kind}"] for name in shapes] for kind in ("weight", "bias"))
groups = [{"params": weights, "weight_decay": 0.2}, {"params": biases, "weight_decay": 0.0}]
optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), eps=1e-6)
steps = args.epochs * max(1, len(train) // args.batch_size)
warm = round(0.1 * steps)
rates = [(step + 1) / warm for step in range(warm)]
rates += [0.5 + 0.5 * math.cos(math.pi * step / (steps - warm)) for step in range(steps - warm)]
counts = torch.tensor([len(item["captions"]) for item in train])
losses = []
for epoch in range(args.epochs):
    torch.manual_seed(args.seed * 1_000_003 + epoch)
    drawn = (torch.rand(len(train), dtype=torch.float64) * counts).long()
    for chosen in torch.randperm(len(train)).split(args.batch_size)[: steps // args.epochs]:
        batch = [train[i] | {"captions": [train[i]["captions"][drawn[i]]]} for i in chosen]
        logits = clip.logit_scale.exp() * similarity(*embed(batch))
        same = torch.tensor([[a["captions"] == b["captions"] for a in batch] for b in batch])
        logits = logits.masked_fill(same.fill_diagonal_(False), -torch.inf)  # they are not wrong
        right = torch.arange(len(batch))
        loss = (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(adapter.values(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = args.lr * rates[len(losses)]
        optimizer.step()
        losses.append(loss.item())
        print(f"step {len(losses)} of {steps}: loss {losses[-1]:.3f}")
evaluate("cross-modal adapter")

# Saving, in the format of the library's `model.load_adapter`.
layers = {tower: count // 2 for tower, count in sites.items()}
options = {"bottleneck_dim": r, "shared_dim": s, "init_std": 0.01, "dropout": 0.0}
options["activation"] = "quick_gelu"
about = {"method": "cross-modal adapter", "options": options, "widths": widths, "layers": layers}
digest = sha256(json.dumps(about, sort_keys=True).encode())
for name, value in sorted(adapter.items()):
    digest.update(f"{name} {list(value.shape)} ".encode() + value.detach().numpy().tobytes())
files = sorted(Path(args.backbone).glob("*.safetensors"))  # none if it is an id of the hub
own = sha256(b"".join(sha256(file.read_bytes()).digest() for file in files)).hexdigest()[:12]
about["backbone"] = {"name": args.backbone, "revision": getattr(clip.config, "_commit_hash", own)}
args.out.mkdir(parents=True, exist_ok=True)
save_file(adapter, args.out / "adapter_model.safetensors", {"digest": digest.hexdigest()})
(args.out / "adapter_config.json").write_text(json.dumps(about, indent=2))
