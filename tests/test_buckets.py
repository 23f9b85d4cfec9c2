import math

import pytest

from dspo_train.exceptions import ConfigError
from dspo_train.images.buckets import Bucket, make_buckets, nearest_bucket


def test_buckets_of_512_by_hand():
    """512^2 = 262144: below 448 fit 585 -> 576, below 384 fit 682 -> 640; below 320 fit 819 -> 768 and below 256 just
    1024, which is 1:4; 192 x 1365 is over it."""
    wide = ((576, 448), (640, 384), (768, 320), (1024, 256))
    tall = ((256, 1024), (320, 768), (384, 640), (448, 576))
    assert make_buckets(512) == (*tall, (512, 512), *wide)
    assert make_buckets(512, max_aspect=2) == (*tall[2:], (512, 512), *wide[:2])


def test_small_resolution():
    """64^2 = 4096: 4096 / 56 = 73 -> 72, 4096 / 48 = 85 -> 80."""
    assert make_buckets(64, step=8, max_aspect=2) == ((48, 80), (56, 72), (64, 64), (72, 56), (80, 48))


@pytest.mark.parametrize(
    "resolution, step, aspect", [(512, 64, 2.0), (1024, 64, 4.0), (500, 64, 2.0), (64, 8, 1.5), (100, 1, 3)]
)
def test_every_bucket_keeps_the_promises(resolution, step, aspect):
    buckets = make_buckets(resolution, step, aspect)
    assert len(set(buckets)) == len(buckets)
    for bucket in buckets:
        assert bucket.width * bucket.height <= resolution**2
        assert bucket.width % step == bucket.height % step == 0
        assert max(bucket) / min(bucket) <= aspect
        assert Bucket(bucket.height, bucket.width) in buckets


def test_there_is_always_a_square_even_off_the_grid():
    assert (448, 448) in make_buckets(500)
    assert nearest_bucket(700, 700, make_buckets(500)) == (448, 448)


def test_aspect_one_leaves_the_square():
    assert make_buckets(512, max_aspect=1.0) == ((512, 512),)


@pytest.mark.parametrize(
    "width, height, expected",
    [
        (512, 512, (512, 512)),
        (4000, 4000, (512, 512)),
        (1920, 1080, (640, 384)),  # 1.78: ln is 0.06 from 1.67 and 0.32 from 1.29
        (1080, 1920, (384, 640)),
        (10000, 100, (1024, 256)),
        (2048, 512, (1024, 256)),
        (600, 480, (576, 448)),  # 1.25 is nearer to 1.29 than to 1
    ],
)
def test_nearest(width, height, expected):
    assert nearest_bucket(width, height, make_buckets(512)) == expected


def test_distance_is_logarithmic():
    """4:3 lies between 1 and 1.8: |ln| is 0.288 and 0.300, but linearly it is 0.33 and 0.47."""
    assert nearest_bucket(1342, 1000, (Bucket(100, 100), Bucket(180, 100))) == (180, 100)  # sqrt(1.8) = 1.3416


def test_equal_distances_are_settled_by_size_then_width():
    assert nearest_bucket(10, 10, (Bucket(64, 32), Bucket(32, 64))) == (64, 32)
    assert nearest_bucket(10, 10, (Bucket(32, 64), Bucket(64, 32))) == (64, 32)
    assert nearest_bucket(10, 10, (Bucket(32, 32), Bucket(64, 64))) == (64, 64)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((0,), "resolution must be a positive whole number of pixels, got 0"),
        ((512.0,), "got 512.0"),
        ((True,), "got True"),
        ((512, 0), "bucket step must be a positive"),
        ((32, 64), "resolution 32 is below the bucket step 64"),
        ((20000,), "at most 16384"),
        ((512, 64, 0.5), "at least 1, got 0.5"),
        ((512, 64, math.nan), "at least 1, got nan"),
        ((512, 64, math.inf), "at least 1, got inf"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ConfigError, match=message):
        make_buckets(*arguments)


def test_bad_pictures_and_no_buckets():
    with pytest.raises(ConfigError, match="got 0x5"):
        nearest_bucket(0, 5, make_buckets(64, 8))
    with pytest.raises(ConfigError, match="no buckets"):
        nearest_bucket(5, 5, ())
