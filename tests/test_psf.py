import numpy as np
import pytest
from romosaic import psf


def radius(shape, scale, center):
    y, x = np.indices(shape)
    return np.hypot(y - center[0], x - center[1]) * scale


@pytest.mark.parametrize("name", sorted(psf.PIVOT_WAVELENGTHS))
def test_energy_in_the_stamp_is_that_of_the_circle_plus_its_corners(name):
    image = psf.psf_image(name, size=257)
    assert image.min() > -1e-9
    inner = float(psf.encircled_energy(128.5 * 0.11, name))
    outer = float(psf.encircled_energy(128.5 * 0.11 * np.sqrt(2), name))
    assert inner - 1e-4 < image.sum() < outer + 1e-4
    assert image.sum() > 0.99


@pytest.mark.parametrize("name", ["F062", "F158", "F213"])
def test_encircled_energy_follows_the_image_and_the_wings(name):
    oversample = 4
    image = psf.psf_image(name, size=301, oversample=oversample) / oversample**2
    r = radius(image.shape, 0.11 / oversample, (150, 150))
    for limit in (1.0, 2.0, 4.0):
        expected = psf.encircled_energy(limit, name)
        assert image[r < limit].sum() == pytest.approx(expected, abs=3e-4)
    wings = 2 * np.pi * psf.wing_brightness(name) / 20.0
    assert 1 - psf.encircled_energy(20.0, name) == pytest.approx(wings, rel=0.02)


def test_encircled_energy_grows_from_nothing_to_all_and_keeps_its_shape():
    radii = np.linspace(0, 60, 61).reshape(61, 1)
    energy = psf.encircled_energy(radii, "F158")
    assert energy.shape == (61, 1)
    assert energy[0, 0] == 0
    assert np.all(np.diff(energy[:, 0]) > 0)
    assert energy[-1, 0] == pytest.approx(1, abs=1e-3)


def test_oversampled_image_holds_the_native_one():
    fine = psf.psf_image("F106", size=161, oversample=4)
    native = psf.psf_image("F106", size=41)
    np.testing.assert_allclose(fine[::4, ::4], native, atol=2e-8)


def test_pixel_response_is_an_average_over_squares():
    bare = psf.psf_image("F184", 0.11 / 11, 231, responses=())
    once = psf.psf_image("F184", 0.11 / 11, 231)
    y, x = 115, 120
    box = bare[y - 5 : y + 6, x - 5 : x + 6].mean()
    assert once[y, x] == pytest.approx(box, rel=2e-3)
    twice = psf.encircled_energy(0.2, "F184", responses=(0.11, 0.055))
    assert twice < psf.encircled_energy(0.2, "F184")


def test_jitter_blurs():
    assert psf.psf_image("F158", jitter=30).max() < psf.psf_image("F158", jitter=0).max()


def test_transfer_function_of_the_annulus_is_its_autocorrelation():
    # Brute force: correlate a drawn pupil with itself.
    n, r = 512, 100
    y, x = np.indices((n, n)) - n // 2
    d = np.hypot(y, x)
    pupil = ((d <= r) & (d >= psf.OBSCURATION * r)).astype(float)
    power = np.abs(np.fft.fft2(pupil)) ** 2
    drawn = np.fft.ifft2(power).real[0, : 2 * r]
    f = np.arange(2 * r) / (2 * r) * psf.cutoff_frequency("F158")
    blur = np.exp(-2 * np.pi**2 * (0.008**2 + psf.CHARGE_DIFFUSION**2) * f**2)
    expected = drawn / drawn[0] * blur
    np.testing.assert_allclose(psf.optical_transfer("F158", f), expected, atol=4e-3)


def test_nothing_beyond_the_cutoff():
    end = psf.cutoff_frequency("F062")
    np.testing.assert_array_equal(psf.optical_transfer("F062", [end, 2 * end]), 0)
    assert psf.optical_transfer("F062", 0.0) == pytest.approx(1)


def test_unknown_filter():
    with pytest.raises(KeyError):
        psf.psf_image("F999")
