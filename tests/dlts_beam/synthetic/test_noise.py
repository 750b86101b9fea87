import numpy as np
import pytest

from dlts_beam.synthetic.noise import box_mean, smooth_noise


def test_the_field_has_unit_variance_and_is_smooth():
    field = smooth_noise(np.random.default_rng(0), 200, 40)
    assert field.dtype == np.float32
    assert abs(field.mean()) < 0.1
    assert field.std() == pytest.approx(1, abs=0.1)
    assert np.abs(np.diff(field, axis=0)).max() < 1


def test_a_finer_grid_shows_the_same_field():
    coarse = smooth_noise(np.random.default_rng(3), 50, 6, octaves=2)
    fine = smooth_noise(np.random.default_rng(3), 150, 6, octaves=2)
    # The centre of a coarse pixel is the centre of the middle one of its nine fine pixels.
    np.testing.assert_allclose(fine[1::3, 1::3], coarse, atol=1e-5)


def test_box_mean_is_the_mean_of_nine():
    image = np.arange(12, dtype=np.float64).reshape(3, 4)
    assert box_mean(image)[1, 1] == image[:3, :3].mean()
    assert box_mean(image)[0, 0] == np.mean([0, 0, 1, 0, 0, 1, 4, 4, 5])
