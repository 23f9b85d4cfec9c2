import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from dspo_train.images.decode import load_rgb
from dspo_train.images.integrity import ImageError, content_hash, inspect_image


def noise(seed: int, size=(80, 64)) -> Image.Image:
    width, height = size
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8))


ENCODINGS = {
    "png": dict(format="PNG"),
    "png-interlace-free-optimised": dict(format="PNG", optimize=True),
    "jpeg": dict(format="JPEG"),
    "jpeg-progressive": dict(format="JPEG", progressive=True),
    "webp": dict(format="WEBP"),
    "webp-lossless": dict(format="WEBP", lossless=True),
}


def encode(image: Image.Image, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("name", ENCODINGS)
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P"])
def test_size_is_what_pillow_says(tmp_path, name, mode):
    if name.startswith("jpeg") and mode in ("RGBA", "P"):
        pytest.skip("JPEG has no such mode")
    path = tmp_path / "a"
    path.write_bytes(encode(noise(0, (123, 77)).convert(mode), **ENCODINGS[name]))
    assert inspect_image(path).size == (123, 77)


def hash_of(path: Path) -> bytes:
    return content_hash(path, inspect_image(path))


@pytest.mark.parametrize("name", ENCODINGS)
def test_every_cut_is_noticed(tmp_path, name):
    """Also those that leave a few bytes, and that only lose the last one."""
    raw = encode(noise(0), **ENCODINGS[name])
    path = tmp_path / "a"
    lengths = {0, 1, 2, 7, 8, 11, 12, 20, 33, len(raw) - 1, len(raw) - 2, *range(40, len(raw) - 2, len(raw) // 60)}
    for length in sorted(lengths):
        path.write_bytes(raw[:length])
        with pytest.raises(ImageError):
            inspect_image(path)
    path.write_bytes(raw)
    assert inspect_image(path).size == (80, 64)


@pytest.mark.parametrize("name", ENCODINGS)
@pytest.mark.parametrize("extra", [b"\0" * 10, b"trailer", b"\0" * 9000])
def test_bytes_after_the_end_are_tolerated(tmp_path, name, extra):
    """Cameras and programs append data; Pillow reads such files, so they are whole."""
    raw = encode(noise(0), **ENCODINGS[name])
    (tmp_path / "a").write_bytes(raw)
    (tmp_path / "b").write_bytes(raw + extra)
    assert inspect_image(tmp_path / "b").fingerprint == inspect_image(tmp_path / "a").fingerprint
    assert hash_of(tmp_path / "b") == hash_of(tmp_path / "a")
    assert load_rgb(tmp_path / "b").size == (80, 64)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["png", "jpeg", "webp"])
def test_size_follows_the_orientation_like_the_loader(tmp_path, name, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    (tmp_path / "a").write_bytes(encode(noise(0), exif=exif, **ENCODINGS[name]))
    assert inspect_image(tmp_path / "a").size == load_rgb(tmp_path / "a").size


def test_size_follows_an_orientation_in_xmp(tmp_path):
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    for name in ("jpeg", "webp"):
        (tmp_path / name).write_bytes(encode(noise(0), xmp=xmp, **ENCODINGS[name]))
        assert inspect_image(tmp_path / name).size == load_rgb(tmp_path / name).size


@pytest.mark.parametrize("name", ENCODINGS)
def test_fingerprint_is_of_the_pixels(tmp_path, name):
    """Metadata does not change it, another picture does, another orientation does."""
    exif, turned = Image.Exif(), Image.Exif()
    exif[0x010E], turned[0x0112] = "text", 3
    info = PngImagePlugin.PngInfo()
    info.add_text("prompt", "x" * 5000)
    options = ENCODINGS[name]
    more = {"pnginfo": info} if name.startswith("png") else {"exif": exif}
    files = {
        "plain": encode(noise(0), **options),
        "noted": encode(noise(0), **options, **more),
        "other": encode(noise(1), **options),
        "turned": encode(noise(0), **options, exif=turned),
    }
    for label, raw in files.items():
        (tmp_path / label).write_bytes(raw)
    prints = {label: inspect_image(tmp_path / label).fingerprint for label in files}
    assert prints["plain"] == prints["noted"]
    assert hash_of(tmp_path / "plain") == hash_of(tmp_path / "noted")
    assert len(set(prints.values())) == 3


@pytest.mark.parametrize("name", ["png", "png-interlace-free-optimised"])
def test_damage_inside_a_png_is_found_by_its_checksum(tmp_path, name):
    """Zeroed bytes anywhere among the pixels; every single flipped byte too."""
    raw = encode(noise(0, (256, 256)), **ENCODINGS[name])
    path = tmp_path / "a"
    for place, length in ((3000, 400), (100, 1), (len(raw) - 40, 1)):
        damaged = bytearray(raw)
        damaged[place : place + length] = bytes(byte ^ 255 for byte in raw[place : place + length])
        path.write_bytes(damaged)
        with pytest.raises(ImageError, match=r"is damaged in bytes \d+-\d+ \(a PNG chunk's checksum\)"):
            inspect_image(path)


@pytest.mark.parametrize("place", [33, 2500])
def test_a_checksum_is_taken_over_all_of_a_large_chunk(tmp_path, monkeypatch, place):
    """Blocks of 1000 bytes, in chunks of 8 KB and more."""
    monkeypatch.setattr("dspo_train.images.integrity._BLOCK", 1000)
    path = tmp_path / "a"
    path.write_bytes(raw := encode(noise(0), **ENCODINGS["png"]))
    whole = inspect_image(path)
    assert whole.size == (80, 64)
    damaged = bytearray(raw)
    damaged[place + 20] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(ImageError, match="checksum"):
        inspect_image(path)


@pytest.mark.parametrize("name", ["jpeg"])
def test_a_run_of_zeros_raises_a_doubt_where_a_format_has_no_checksum(tmp_path, monkeypatch, name):
    """300 of 8 KB and more, also across two blocks of reading; Pillow decodes such files without a word."""
    monkeypatch.setattr("dspo_train.images.integrity._BLOCK", 1000)
    raw = encode(noise(0, (256, 256)), **ENCODINGS[name])
    path = tmp_path / "a"
    path.write_bytes(raw)
    assert inspect_image(path).doubt == ""
    damaged = bytearray(raw)
    damaged[len(raw) // 2 : len(raw) // 2 + 300] = bytes(300)
    path.write_bytes(damaged)
    assert "zero bytes or more in a row" in inspect_image(path).doubt


@pytest.mark.parametrize("options", [*ENCODINGS.values(), {"format": "JPEG", "optimize": True, "quality": 90}])
@pytest.mark.parametrize("plain", [0, 90, 255])
def test_plain_areas_raise_no_doubt(tmp_path, options, plain):
    """A patch of noise on a plain ground: with tables of the file's own, the ground may be coded as zeros."""
    image = Image.new("RGB", (1024, 1024), (plain, plain, plain))
    image.paste(noise(1, (300, 300)), (600, 100))
    (tmp_path / "a").write_bytes(encode(image, **options))
    assert inspect_image(tmp_path / "a").doubt == ""


def test_a_palette_is_part_of_the_picture(tmp_path):
    for label, colour in (("a", [1, 2, 3]), ("b", [9, 2, 3])):
        image = Image.new("P", (64, 64))
        image.putpalette(colour)
        image.save(tmp_path / label, format="PNG")
    assert inspect_image(tmp_path / "a").fingerprint != inspect_image(tmp_path / "b").fingerprint


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")
def test_random_damage_never_escapes_as_another_error(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "a"
    for options in ENCODINGS.values():
        exif = Image.Exif()
        exif[0x0112] = 6
        raw = encode(noise(0), exif=exif, **options)
        for _ in range(60):
            damaged = bytearray(raw)
            for place in rng.integers(0, min(len(raw), 300), 4):
                damaged[place] = rng.integers(0, 256)
            path.write_bytes(damaged)
            try:
                width, height = inspect_image(path).size
                assert width > 0 and height > 0
            except ImageError as error:
                assert len(str(error)) > 10
