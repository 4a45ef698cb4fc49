"""Libraries do what they are there for: faiss searches, timm builds, JPEGs are decoded, HDF5 files are written and read."""

import io
import pathlib
import subprocess
import sys
import tempfile

from tcs.doctor.finding import ERROR, WARNING, Finding

# In a process of its own: a faiss that does not fit the machine ends the process that asks it. Bits and neighbours of known answer.
SEARCH = """
import faiss, numpy as np
rows = np.eye(8, dtype=np.float32)
index = faiss.IndexFlatL2(8)
index.add(rows)
distances, found = index.search(rows, 1)
assert found[:, 0].tolist() == list(range(8))
lsh = faiss.IndexLSH(8, 16, True, True)
lsh.train(rows)
assert lsh.sa_encode(rows).shape == (8, 2)
print(faiss.__version__, getattr(faiss, "get_num_gpus", lambda: 0)())
"""
SEARCH_SECONDS = 60


def check_faiss() -> Finding:
    """A search and hash bits, by faiss itself."""
    remedy = "pip uninstall -y faiss-cpu faiss-gpu, then pip install faiss-cpu"
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", SEARCH], capture_output=True, text=True, timeout=SEARCH_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return Finding(
            name="faiss runs",
            level=ERROR,
            text=f"no answer in {SEARCH_SECONDS} s",
            remedy=f"set OMP_NUM_THREADS=1, or {remedy}",
        )
    if done.returncode:
        said = (done.stderr.strip().splitlines() or [f"ended by signal {-done.returncode}"])[-1][:160]
        return Finding(name="faiss runs", level=ERROR, text=said, remedy=remedy)
    version, gpus = done.stdout.split()[-2:]
    return Finding(
        name="faiss runs", text=f"{version}, a search and hash bits are right, {gpus} GPUs (hash bits use none)"
    )


def check_timm() -> Finding:
    """A student can be built and run."""
    import timm
    import torch

    model = timm.create_model("test_resnet", num_classes=3).eval()
    with torch.no_grad():
        shape = tuple(model(torch.zeros(2, 3, 32, 32)).shape)
    if shape != (2, 3):
        return Finding(
            name="timm runs", level=ERROR, text=f"a student gives {shape}", remedy="pip install --force-reinstall timm"
        )
    return Finding(name="timm runs", text=f"a student of {len(timm.list_models()):,} is built and run")


def check_decoder() -> Finding:
    """Which library decodes JPEGs; what it gives, whole or at a half, is what Pillow gives."""
    import numpy as np
    from PIL import Image

    from tcs.config.pixels import EARLIER
    from tcs.images import decode, jpeg

    pixels_HW3 = np.add.outer(np.arange(64), np.arange(48))[..., None].repeat(3, 2).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels_HW3).save(buffer, "JPEG", quality=95)
    are_alike = True
    for least in (None, 24):  # a half has 32 x 24 pixels
        ours = np.asarray(decode.decode_told(buffer.getvalue(), EARLIER, least).image)
        pillows = Image.open(io.BytesIO(buffer.getvalue()))
        if least is not None:
            pillows.draft(None, (least, least))
        are_alike &= np.array_equal(ours, np.asarray(pillows.convert("RGB")))
    if not are_alike:
        return Finding(
            name="decoder",
            level=WARNING,
            text="simplejpeg and Pillow decode a JPEG differently, so pixels depend on what is installed",
            remedy="pip install --upgrade pillow simplejpeg",
        )
    if vars(jpeg)["simplejpeg"] is None:
        return Finding(
            name="decoder", text="Pillow (simplejpeg takes a tenth less time: pip install 'tcs-distill[fast]')"
        )
    return Finding(name="decoder", text="simplejpeg, with Pillow's pixels")


def check_hdf5(folder: pathlib.Path) -> Finding:
    """An HDF5 file is written to the folder and read back."""
    import h5py
    import h5py.version
    import numpy as np

    values = np.arange(1000, dtype=np.float32)
    with tempfile.TemporaryDirectory(prefix=".tcs-doctor-", dir=folder) as place:
        path = pathlib.Path(place) / "x.h5"
        try:
            with h5py.File(path, "w") as file:
                file["values"] = values
            with h5py.File(path) as file:
                is_same = np.array_equal(file["values"][:], values)
        except OSError as error:
            remedy = "if it is about locking, set HDF5_USE_FILE_LOCKING=FALSE; else use another folder"
            return Finding(name="hdf5", level=ERROR, text=str(error).splitlines()[0][:160], remedy=remedy)
    if not is_same:
        return Finding(
            name="hdf5",
            level=ERROR,
            text="a file reads back otherwise than written",
            remedy="test the disk; use another folder",
        )
    return Finding(name="hdf5", text=f"h5py {h5py.__version__}, HDF5 {h5py.version.hdf5_version}: written and read")
