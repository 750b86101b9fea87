from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dlts_beam.errors import DltsError
from dlts_beam.spec import ClassTable, PreparationSpec, Timeline, shard_name
from tests.trainer.helpers import GRID, make_fake, write_fake
from trainer.dataset import check_agreement, read_samples
from trainer.prepared import observed_means, observed_steps, prepare_samples

PREPARATION = PreparationSpec(("b1", "b2"), (0.5, 0.25))


def test_all_that_was_written_is_read(tmp_path: Path) -> None:
    fake = make_fake((9, 6), patch=3, bands=3, dtype="uint16")
    fake.kept["season"] = [str(2010 + k % 2) for k in range(15)]
    fake.valid[:, 2] = False
    samples = read_samples([write_fake(tmp_path, fake)])
    order = np.argsort(fake.ids)
    assert samples.ids.tolist() == sorted(fake.ids)
    np.testing.assert_array_equal(samples.class_ids, fake.class_ids[order])
    np.testing.assert_array_equal(samples.days, fake.days[order])
    assert samples.kept["season"].tolist() == [fake.kept["season"][k] for k in order]
    (part,) = samples.parts
    back = np.argsort(part.place)
    np.testing.assert_array_equal(part.stored[back], fake.stored[order])
    np.testing.assert_array_equal(part.valid[back], fake.valid[order])
    first = order[0]
    assert (samples.x[0], samples.y[0]) == GRID.xy(fake.rows[first] + 0.5, fake.cols[first] + 0.5)


def test_shards_and_order_leave_no_trace(tmp_path: Path) -> None:
    fake = make_fake((12, 8), patch=3)
    one = read_samples([write_fake(tmp_path / "a", fake, shards=1)])
    order = np.random.default_rng(1).permutation(20).tolist()
    other = read_samples([write_fake(tmp_path / "b", fake, shards=7, order=order)])
    np.testing.assert_array_equal(one.ids, other.ids)
    np.testing.assert_array_equal(
        prepare_samples(one, PREPARATION), prepare_samples(other, PREPARATION), strict=True
    )


def test_scratch_files_give_the_same_as_memory(tmp_path: Path) -> None:
    folder = write_fake(tmp_path, make_fake((12, 8), patch=3))
    in_memory = prepare_samples(read_samples([folder]), PREPARATION)
    mapped_samples = read_samples([folder], limit=100)
    assert isinstance(mapped_samples.parts[0].stored, np.memmap)
    mapped = prepare_samples(mapped_samples, PREPARATION, limit=100)
    assert isinstance(mapped, np.memmap)
    np.testing.assert_array_equal(mapped, in_memory)


def test_pixel_models_read_the_centre(tmp_path: Path) -> None:
    folder = write_fake(tmp_path, make_fake((5, 5), patch=5))
    whole = prepare_samples(read_samples([folder]), PREPARATION)
    centres = prepare_samples(read_samples([folder], centre=True), PREPARATION)
    assert centres.shape == (10, 6, 1, 1, 2)
    np.testing.assert_array_equal(centres, whole[:, :, 2:3, 2:3])


def test_preparation_fills_gaps_in_days_and_scales(tmp_path: Path) -> None:
    fake = make_fake((3, 3), bands=2)
    fake.days[:, 1:] += 16.0  # the second step lies twice as far from the first as from the third
    fake.valid[:, 1] = False
    fake.valid[0, :, :, :, 1] = False
    samples = read_samples([write_fake(tmp_path, fake)])
    place = sorted(fake.ids).index(fake.ids[0])
    prepared = prepare_samples(samples, PREPARATION)[place, :, 0, 0]
    stored = fake.stored[0, :, 0, 0, 0] * 0.001
    assert prepared[1, 0] == pytest.approx(stored[0] + (stored[2] - stored[0]) * 2 / 3, rel=1e-6)
    np.testing.assert_array_equal(prepared[:, 1], 0.25)


def test_patches_at_the_edge_repeat_the_grids_pixels(tmp_path: Path) -> None:
    fake = make_fake((2, 2), patch=3)
    fake.rows[0], fake.cols[0] = 0, GRID.width - 1
    fake.valid[0, :, 0] = fake.valid[0, :, :, 2] = False
    samples = read_samples([write_fake(tmp_path, fake)])
    prepared = prepare_samples(samples, PREPARATION)[sorted(fake.ids).index(fake.ids[0])]
    np.testing.assert_array_equal(prepared[:, 0], prepared[:, 1])
    np.testing.assert_array_equal(prepared[:, :, 2], prepared[:, :, 1])


def test_means_count_valid_values_of_the_chosen_samples(tmp_path: Path) -> None:
    fake = make_fake((5, 5), patch=3)
    fake.valid[:, 3, 0, 0] = False
    samples = read_samples([write_fake(tmp_path, fake)])
    chosen = np.arange(10) < 4
    means, share = observed_means(samples, chosen, PREPARATION)
    rows = np.argsort(fake.ids)[:4]
    for band in range(2):
        values = fake.stored[rows][..., band][fake.valid[rows][..., band]]
        assert means[band] == pytest.approx(values.mean() * 0.001, rel=1e-5)
    assert share == pytest.approx(1 - 1 / 54)
    np.testing.assert_array_equal(observed_steps(samples, PREPARATION), 6)


def test_observed_steps_are_counted_on_the_timeline(tmp_path: Path) -> None:
    fake = make_fake((5, 5), patch=3)
    fake.valid[fake.ids.index(sorted(fake.ids)[3]), :2] = False
    samples = read_samples([write_fake(tmp_path, fake)])
    days = samples.parts[0].days[0]
    timeline = Timeline(0.0, float(days[2] - days[0]), 1, method="median")  # the first two time steps
    found = observed_steps(samples, replace(PREPARATION, timeline=timeline))
    assert found.tolist() == [2, 2, 2, 0, *[2] * 6]


def test_two_folders_become_one_set(tmp_path: Path) -> None:
    first = make_fake((6, 6), seed=1)
    second = make_fake((4, 5), seed=2, dtype="float32")
    samples = read_samples([write_fake(tmp_path / "a", first), write_fake(tmp_path / "b", second)])
    assert len(samples) == 21
    prepared = prepare_samples(samples, PREPARATION)
    for number, fake in enumerate((first, second)):
        for row, name in enumerate(fake.ids):
            place = np.flatnonzero((samples.ids == name) & (samples.folders == number))
            np.testing.assert_allclose(
                prepared[place[0], :, 0, 0], fake.stored[row, :, 0, 0] * 0.001, rtol=1e-6
            )


def test_folders_must_agree() -> None:
    spec = make_fake().spec
    other = replace(spec, classes=ClassTable.from_labels(["x", "y"]))
    with pytest.raises(DltsError, match=r"classes differ \(x, y and class 0, class 1\)"):
        check_agreement([spec, other], ["a", "b"])
    longer = replace(spec, steps=spec.steps[:-1])
    with pytest.raises(DltsError, match="number of time steps differ"):
        check_agreement([spec, longer], ["a", "b"])


def test_the_same_folder_twice_is_refused(tmp_path: Path) -> None:
    folder = write_fake(tmp_path, make_fake((2, 2)))
    (tmp_path / "link").symlink_to(folder)
    for other in (folder + "/", os.path.relpath(folder), str(tmp_path / "link")):
        with pytest.raises(DltsError, match="gives one samples folder twice"):
            read_samples([folder, other])


def test_a_folder_without_samples_is_named(tmp_path: Path) -> None:
    with pytest.raises(DltsError, match="not a samples folder"):
        read_samples([str(tmp_path)])


def test_a_truncated_shard_is_named(tmp_path: Path) -> None:
    folder = Path(write_fake(tmp_path, make_fake((20, 20))))
    shard = folder / shard_name(1, 2)
    shard.write_bytes(shard.read_bytes()[:-40])
    with pytest.raises(DltsError, match=r"samples-00001-of-00002\.tfrecord\.gz is truncated or damaged"):
        read_samples([str(folder)])


def test_a_shard_cut_between_records_is_found(tmp_path: Path) -> None:
    folder = Path(write_fake(tmp_path, make_fake((20, 20))))
    (folder / shard_name(1, 2)).write_bytes(gzip.compress(b""))
    with pytest.raises(DltsError, match=r"counts 40 samples.*samples-00001-of-00002.tfrecord.gz without any"):
        read_samples([str(folder)])


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    folder = Path(write_fake(tmp_path, make_fake((5, 5))))
    (folder / shard_name(0, 2)).unlink()
    with pytest.raises(DltsError, match=r"samples-00000-of-00002.tfrecord.gz is missing"):
        read_samples([str(folder)])


def test_records_that_disagree_with_the_spec_are_named(tmp_path: Path) -> None:
    fake = make_fake((5, 5))
    folder = write_fake(tmp_path, fake)
    spec = replace(fake.spec, dtype="float64")
    (tmp_path / "samples.json").write_text(spec.to_json())
    with pytest.raises(DltsError, match=r"24 bytes of 'series' where samples.json .* asks for 96"):
        read_samples([folder])
    (tmp_path / "samples.json").write_text(replace(fake.spec, class_counts=(4, 6)).to_json())
    with pytest.raises(DltsError, match="samples per class"):
        read_samples([folder])


def test_shards_of_another_run_are_refused_though_all_counts_are_the_same(tmp_path: Path) -> None:
    fake = make_fake((5, 5))
    folder, other = write_fake(tmp_path / "a", fake), write_fake(tmp_path / "b", make_fake((5, 5), seed=1))
    shards = [shard_name(number, 2) for number in range(2)]
    digests = tuple(hashlib.sha256((Path(folder) / shard).read_bytes()).hexdigest() for shard in shards)
    spec = replace(fake.spec, shards_sha256=digests)
    (tmp_path / "a/samples.json").write_text(spec.to_json())
    assert read_samples([folder]).spec.shards_sha256 == digests
    shutil.copy(Path(other) / shards[1], Path(folder) / shards[1])
    told = r"samples-00001-of-00002\.tfrecord\.gz is not the file that samples\.json was written for: two"
    with pytest.raises(DltsError, match=told):
        read_samples([folder])


def test_a_folder_from_before_shards_had_digests_is_read(tmp_path: Path) -> None:
    folder = write_fake(tmp_path, make_fake((5, 5)))
    written = json.loads((tmp_path / "samples.json").read_text())
    assert written.pop("shards_sha256") == []
    (tmp_path / "samples.json").write_text(json.dumps(written))
    assert len(read_samples([folder])) == 10


def test_a_sample_twice_in_a_folder_is_refused(tmp_path: Path) -> None:
    fake = make_fake((5, 5))
    fake.ids[3] = fake.ids[4]
    with pytest.raises(DltsError, match=rf"sample {fake.ids[3]} is twice in"):
        read_samples([write_fake(tmp_path, fake)])
