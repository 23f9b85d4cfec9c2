import numpy as np
import pytest
import torch
from PIL import Image, ImageFile

from dspo_train.exceptions import ConfigError, DatasetError
from dspo_train.images.buckets import Bucket
from dspo_train.images.decode import crop_to_bucket, load_rgb, to_tensor
from dspo_train.images.formats import MAX_PIXELS


def quarters() -> Image.Image:
    """80 x 64: red, green / blue, white, so that any turn or flip shows."""
    image = Image.new("RGB", (80, 64), "white")
    image.paste((255, 0, 0), (0, 0, 40, 32))
    image.paste((0, 255, 0), (40, 0, 80, 32))
    image.paste((0, 0, 255), (0, 32, 40, 64))
    return image


def pixel(image: Image.Image, place: tuple[int, int]) -> tuple[int, ...]:
    value = image.getpixel(place)
    assert isinstance(value, tuple)
    return value


def corners(image: Image.Image) -> list:
    right, bottom = image.width - 3, image.height - 3
    return [pixel(image, place) for place in ((2, 2), (right, 2), (2, bottom), (right, bottom))]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "webp"])
def test_exif_orientation_is_undone(tmp_path, orientation, suffix):
    """The file holds the picture turned away; what is loaded stands upright again."""
    back = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[
        orientation
    ]  # inverse Image.Transpose of each orientation
    stored = quarters() if back is None else quarters().transpose(Image.Transpose(back))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / f"a.{suffix}", exif=exif, lossless=True)
    loaded = load_rgb(tmp_path / f"a.{suffix}")
    assert loaded.size == (80, 64)
    assert corners(loaded) == corners(quarters())


@pytest.mark.parametrize(
    "image, expected",
    [
        (Image.new("RGBA", (64, 64), (255, 0, 0, 0)), (255, 255, 255)),
        (Image.new("RGBA", (64, 64), (0, 0, 0, 51)), (204, 204, 204)),  # 20% black over white
        (Image.new("LA", (64, 64), (0, 0)), (255, 255, 255)),
        (Image.new("L", (64, 64), 100), (100, 100, 100)),
        (Image.new("1", (64, 64), 1), (255, 255, 255)),
        (Image.fromarray(np.full((64, 64), 0x8080, np.uint16)), (128, 128, 128)),
        (Image.fromarray(np.full((64, 64), 0x0180, np.uint16)), (1, 1, 1)),
        (Image.new("P", (64, 64), 0), (0, 0, 0)),
    ],
    ids=["clear", "veil", "grey-clear", "grey", "bit", "grey16", "grey16-dark", "palette"],
)
def test_modes_become_rgb(tmp_path, image, expected):
    image.save(tmp_path / "a.png")
    loaded = load_rgb(tmp_path / "a.png")
    assert loaded.mode == "RGB"
    assert loaded.getpixel((5, 5)) == expected


def test_transparent_palette_entry_becomes_white(tmp_path):
    image = Image.new("P", (64, 64), 3)
    image.putpalette([10, 20, 30] * 8)
    image.putpixel((0, 0), 1)
    image.save(tmp_path / "a.png", transparency=3)
    loaded = load_rgb(tmp_path / "a.png")
    assert loaded.getpixel((5, 5)) == (255, 255, 255)
    assert loaded.getpixel((0, 0)) == (10, 20, 30)


def test_cmyk_jpeg(tmp_path):
    Image.new("CMYK", (64, 64), (255, 0, 0, 0)).save(tmp_path / "a.jpg")
    red, green, blue = pixel(load_rgb(tmp_path / "a.jpg"), (5, 5))
    assert red < 10 and green > 245 and blue > 245


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_truncated_is_refused_even_where_a_host_made_pillow_lenient(tmp_path, suffix, monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    rng = np.random.default_rng(0)
    path = tmp_path / f"half.{suffix}"
    Image.fromarray(rng.integers(0, 255, (64, 64, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DatasetError, match=rf"half\.{suffix}: cannot be decoded .*copy or save it again"):
        load_rgb(path)
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True


def test_other_refusals(tmp_path):
    with pytest.raises(DatasetError, match=r"gone\.png: no such image"):
        load_rgb(tmp_path / "gone.png")
    (tmp_path / "page.png").write_text("<html>")
    with pytest.raises(DatasetError, match=r"page\.png: cannot be decoded"):
        load_rgb(tmp_path / "page.png")
    quarters().save(tmp_path / "a.bmp")
    with pytest.raises(DatasetError, match=r"a\.bmp: cannot be decoded"):
        load_rgb(tmp_path / "a.bmp")


def test_size_cap(tmp_path, monkeypatch):
    assert MAX_PIXELS == 64_000_000
    monkeypatch.setattr("dspo_train.images.decode.MAX_PIXELS", 80 * 64 - 1)
    quarters().save(tmp_path / "a.png")
    with pytest.raises(DatasetError, match=r"a\.png: 80x64 pixels is over 64 megapixels"):
        load_rgb(tmp_path / "a.png")


def test_crop_covers_and_cuts_exactly():
    """200 x 100 into 64 x 64: scaled by 0.64 to 128 x 64, 64 pixels of room to the side."""
    image = Image.new("RGB", (200, 100))
    image.paste((255, 255, 255), (100, 0, 200, 100))
    for place, left, shades in ((0.0, 0, (0, 0)), (1.0, 64, (255, 255)), (0.5, 32, (0, 255))):
        cut, offset = crop_to_bucket(image, Bucket(64, 64), (place, 0.3))
        assert (cut.size, offset) == ((64, 64), (left, 0))
        assert (pixel(cut, (5, 30))[0], pixel(cut, (58, 30))[0]) == shades


def test_crop_vertical_and_enlarging():
    """50 x 80 into 100 x 100: doubled to 100 x 160; 0.25 of 60 rows is 15."""
    cut, offset = crop_to_bucket(Image.new("RGB", (50, 80)), Bucket(100, 100), (0.9, 0.25))
    assert (cut.size, offset) == ((100, 100), (0, 15))


@pytest.mark.parametrize("size", [(64, 64), (65, 64), (333, 777), (1, 1), (1000, 3)])
def test_crop_always_gives_the_bucket(size):
    cut, (left, top) = crop_to_bucket(Image.new("RGB", size), Bucket(48, 80), (1.0, 1.0))
    assert cut.size == (48, 80)
    assert left >= 0 and top >= 0


@pytest.mark.parametrize("position", [(-0.1, 0), (0, 1.5), (float("nan"), 0)])
def test_crop_position_is_checked(position):
    with pytest.raises(ConfigError, match="from 0 to 1"):
        crop_to_bucket(Image.new("RGB", (64, 64)), Bucket(64, 64), position)


def test_tensor_range_and_order():
    tensor = to_tensor(quarters())
    assert (tensor.shape, tensor.dtype, tensor.is_contiguous()) == ((3, 64, 80), torch.float32, True)
    assert tensor[:, 2, 2].tolist() == [1, -1, -1]  # red, top left
    assert tensor[:, 2, 77].tolist() == [-1, 1, -1]  # green, top right
    assert tensor[:, 61, 2].tolist() == [-1, -1, 1]  # blue, bottom left
