"""Read the official releases of public sets with localised objects (ECE, Section 4.1), unpacked into the mirror folder.

Layouts verified on copies of the files or of the authors' notes: TNBC, MoNuSeg's regions, the masks of CPM15, the
points of CRCHisto, the arrays of CoNSeP. Not verified on the releases themselves: CPM17, WBC-NuClick (folders as in
code that reads it), and whether ImageScope counts from the corner of a pixel, as taken here, or from its middle. One
copy of CPM15 has the masks of image04 and image05 swapped, which their sizes tell. TIL is private: of it only the
prepared layout can be read.
"""

from __future__ import annotations

import glob
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shared.datasets.catalogue import DatasetError, Source, read_sources, say
from shared.datasets.localised import files, points
from shared.datasets.localised.localised import SPLITS, UNKNOWN, Localised, objects, of_labels, offsets
from shared.files import is_there, listed, natural_key

CONSEP = (
    "miscellaneous",
    "inflammatory",
    "healthy epithelial",
    "malignant epithelial",
    "fibroblast",
    "muscle",
    "endothelial",
)
CRCHISTO = ("epithelial", "fibroblast", "inflammatory", "others")
# Words in names of folders, and what is written onto them: "testdata". What is none of these is for training.
WORDS = re.compile(
    r"(?:(?P<train>train(?:ing)?)|(?P<validation>val(?:id|idation)?)|(?P<test>test(?:s|ing)?))"
    r"(?:data|sets?|images?|imgs?|splits?)?"
)
TNBC_SLIDES = 11  # later versions of the release add slides of other tissue
KUMAR = {  # patients of the 16 training and the 14 test images (Kumar et al. 2017, Table I)
    "train": "A7-A13E A7-A13F AR-A1AK AR-A1AS HE-7128 HE-7129 HE-7130 B0-5711 18-5592 38-6178 49-4488 50-5931 "
    "G9-6336 G9-6348 G9-6356 G9-6363",
    "test": "E2-A1B5 E2-A14V B0-5710 B0-5698 21-5784 21-5786 CH-5767 G9-6362 DK-A2I6 G2-A2EK AY-A8YK NH-A8F7 "
    "KB-A93J RD-A8N9",
}

Found = tuple[str, Path, np.ndarray, np.ndarray]  # name, folder below the set's own, image, label image


@dataclass(frozen=True)
class Release:
    """Describe a set: what its objects are, how a folder of the mirror is read; data/sources.csv says where to get it.

    Attributes
    ----------
    group : the slide or patient of an image, from its name.
    read : reads the official release from (folder, name of the set, this).
    finish : is applied to either layout.
    images : how many the official set has at least; 0 where nobody says.
    """

    what: str = "object"
    group: Callable[[str], str] = str
    read: Callable[[Path, str, Release], Localised] | None = None
    finish: Callable[[Localised], Localised] = lambda data: data
    images: int = 0


def source_of(name: str) -> Source:
    """Return how a set is had; one's own is looked for in the mirror under its name."""
    own = Source(name, "1", "mirror", "", "", "", name, {}, "", "")
    return read_sources().get(name, (own,))[0]


def advice(name: str) -> str:
    """Return what to do to have a set."""
    source, layout = source_of(name), "laid out as shared/datasets/localised/prepared.py says"
    if source.url:
        return f"get it from {source.url}, unpack it into LLP_MIRROR under its name (or put a copy there, {layout})"
    known = f"it is {source.licence}; a copy goes" if source.licence else "put it"
    return f"{known} into LLP_MIRROR under its name, {layout}"


def read_tnbc(place: Path, name: str, release: Release) -> Localised:
    """Read Slide_XX/XX_Y.png beside GT_XX/XX_Y.png: binary masks whose connected components are the nuclei."""
    found, left_out = [], 0
    for path in _files(place, "Slide_*/*.png"):
        if int(re.sub(r"\D", "", path.parent.name) or 0) > TNBC_SLIDES:
            left_out += 1
            continue
        mask = path.parent.with_name(path.parent.name.replace("Slide", "GT")) / path.name
        found.append((path.stem, Path(), files.read_image(path), files.read_mask(mask)))
    for mask in _files(place, "GT_*/*.png"):
        image = mask.parent.with_name(mask.parent.name.replace("GT", "Slide")) / mask.name
        if not image.is_file():
            raise DatasetError(f"{mask} has no image {image}; complete the release")
    if left_out:
        say(f"{name}: {left_out} images of slides above {TNBC_SLIDES} are left out")
    return _of(found, place, name, release, "Slide_*/*.png")


def read_regions(place: Path, name: str, release: Release) -> Localised:
    """Read *.tif with regions in *.xml of the same name, at any depth; a folder with the word test is for test."""
    if not any(_files(place, "*.xml")):
        return read_maps(place, name, release)
    images = files.by_stem(path for pattern in ("*.tif", "*.tiff") for path in _files(place, pattern))
    left_out: Counter[str] = Counter()
    found: list[Found] = []
    holes = 0
    for path in files.by_stem(_files(place, "*.xml")).values():
        if path.stem not in images:
            raise DatasetError(f"{path} has no image {path.stem}.tif; complete the release")
        image, drawn = files.read_image(images.pop(path.stem)), files.read_outlines(path)
        label = files.filled(drawn.regions, image.shape[:2], drawn.holes)
        left_out.update(drawn.left_out)
        left_out["region without a pixel of its own"] += len(drawn.regions) - len(np.unique(label[label > 0]))
        holes += len(drawn.holes)
        found.append((path.stem, path.parent.relative_to(place), image, label))
    if images:
        raise DatasetError(f"{next(iter(images.values()))} has no regions in a .xml of its name; complete the release")
    for what, count in sorted((+left_out).items()):
        say(f"{name}: left out: {count} x {what}")
    if holes:
        say(f"{name}: {holes} negative regions are cut out of the others")
    return _of(found, place, name, release, "*.xml")


def read_masks_of_text(place: Path, name: str, release: Release) -> Localised:
    """Read imageXX.png beside imageXX_mask.txt, as its authors' README says; or the layout of `read_maps`."""
    masks = list(_files(place, "*_mask.txt"))
    if not masks:
        return read_maps(place, name, release)
    found = []
    images = [path.with_name(path.name.replace("_mask.txt", ".png")) for path in masks]
    for path, image in zip(masks, images, strict=True):
        label = files.read_text_mask(path)
        found.append((image.stem, path.parent.relative_to(place), files.read_image(image), label))
    _all_read(_files(place, "image*[0-9].png"), images)
    return _of(found, place, name, release, "*_mask.txt")


def read_maps(place: Path, name: str, release: Release) -> Localised:
    """Read Images/ beside Labels/*.mat with `inst_map`, in folders such as Train and Test (HoVer-Net's layout)."""
    found = [(which, folder, image, label) for which, folder, image, label, _ in _maps(place)]
    return _of(found, place, name, release, "Labels/*.mat")


def read_consep(place: Path, name: str, release: Release) -> Localised:
    """Read as `read_maps` does, with `type_map`: a nucleus has the type that most of its pixels have."""
    found, classes = [], []
    for which, folder, image, label, path in _maps(place):
        types = _whole(files.read_mat(path, ("type_map",))[0], path, "type_map", label.shape)
        found.append((which, folder, image, label))
        classes.append(_types(types, label, path))
    return _of(found, place, name, release, "Labels/*.mat", classes=classes, class_names=CONSEP)


def read_crchisto(place: Path, name: str, release: Release) -> Localised:
    """Read imgN/imgN.bmp with imgN_detection.mat, and imgN_<class>.mat for nuclei whose class is known; or points.npz.

    ``points.npz`` beside images/imgN.png holds the same pairs x, y under imgN_detection and so on.
    """
    archive = place / "points.npz"
    packed = is_there(archive, DatasetError)
    paths = list(_files(place, "images/img*.png" if packed else "img*_detection.mat"))
    if not paths:
        raise DatasetError(f"{place} has no {'images/img*.png' if packed else 'img*_detection.mat'}; {advice(name)}")
    of = (
        points.archived(archive, ("detection", *CRCHISTO))
        if packed
        else points.of_matlab(place, _files(place, "img*_*.mat"))
    )
    where = {stem.removesuffix("_detection"): path for stem, path in files.by_stem(paths).items()}
    names = sorted(where, key=natural_key)
    images, centres, classes = [], [], []
    for which in names:
        path = where[which]
        images.append(files.read_image(path if path.suffix == ".png" else path.with_name(f"{which}.bmp")))
        found, said = of(f"{which}_detection"), f"{archive}: {which}_detection" if packed else f"{path}"
        outside = found[((found < 0) | (found > images[-1].shape[:2])).any(1)]
        if len(outside):
            raise DatasetError(f"{said}: the centre {tuple(outside[0].tolist())} is outside the image; correct it")
        centres.append(found)
        classes.append(points.given(found, [of(f"{which}_{kind}") for kind in CRCHISTO], said))
    _all_read((path for path in _files(place, "img*[0-9].bmp") if path.stem not in where), [])
    joined = np.concatenate(centres)
    return Localised(
        name=name,
        names=tuple(names),
        groups=tuple(map(release.group, names)),
        official=None,
        images=tuple(images),
        labels=None,
        offsets=offsets([len(found) for found in centres]),
        numbers=np.concatenate([np.arange(1, len(found) + 1) for found in centres]),
        centres=joined,
        boxes=np.tile(joined, 2),
        classes=np.concatenate(classes),
        class_names=(*CRCHISTO, UNKNOWN),
    )


def read_nuclick(place: Path, name: str, release: Release) -> Localised:
    """Read {Train,Validation}/images/X.png with masks/X_mask.png; the 250 validation images are our test set."""
    found, used = [], []
    for path in _files(place, "masks/*_mask.png"):
        image = path.parent.with_name("images") / path.name.replace("_mask.png", ".png")
        folder = path.parent.relative_to(place)
        if _official(folder)[0] not in ("train", "validation"):
            raise DatasetError(f"{path} is in no folder called Train or Validation; complete the release")
        found.append((image.stem, folder, files.read_image(image), files.read_mask(path)))
        used.append(image)
    _all_read(_files(place, "images/*.png"), used)
    return _of(found, place, name, release, "masks/*_mask.png", means={"validation": "test"})


def thirty(data: Localised) -> Localised:
    """Return the 30 images of Kumar et al. and their split, 16 to train and 14 to test, from them or from MoNuSeg's."""
    official = {f"TCGA-{who}": split for split, patients in KUMAR.items() for who in patients.split()}
    kept = [i for i, group in enumerate(data.groups) if group in official]
    missing = sorted(set(official) - {data.groups[i] for i in kept})
    if missing:
        raise DatasetError(f"{data.name} has no image of {', '.join(missing)}; complete the release")
    assert data.labels is not None  # both are read from outlines
    groups = [data.groups[i] for i in kept]
    return of_labels(
        data.name,
        [data.names[i] for i in kept],
        [data.images[i] for i in kept],
        [data.labels[i] for i in kept],
        groups=groups,
        official=[official[group] for group in groups],
        class_names=data.class_names,
    )


def patient(name: str) -> str:
    """Return the patient in the name of an image from The Cancer Genome Atlas; else the name."""
    found = re.search(r"TCGA-\w\w-\w{4}", name)
    return str(found[0]) if found else name


def _maps(place: Path) -> Iterator[tuple[str, Path, np.ndarray, np.ndarray, Path]]:
    used = []
    for path in _files(place, "Labels/*.mat"):
        beside = listed(path.parent.with_name("Images"), f"{glob.escape(path.stem)}.*", DatasetError)
        if not beside:
            raise DatasetError(f"{path} has no image of its name in {path.parent.with_name('Images')}")
        image = files.read_image(beside[0])
        used.append(beside[0])
        label = _whole(files.read_mat(path, ("inst_map",))[0], path, "inst_map", image.shape[:2])
        yield path.stem, path.parent.relative_to(place), image, label, path
    _all_read(_files(place, "Images/*"), used)


def _whole(values: np.ndarray, path: Path, name: str, size: tuple[int, int]) -> np.ndarray:
    if values.shape != size or (values != np.round(values)).any() or values.min(initial=0) < 0:
        raise DatasetError(f"{path}: {name} of shape {values.shape} is no map of whole numbers of {size} pixels")
    return files.numbered(values, path)


def _types(types: np.ndarray, label: np.ndarray, path: Path) -> np.ndarray:
    """Return (k,) int64: the type of most pixels of each object, from 0."""
    numbers = objects(label)[0]
    count = len(CONSEP) + 1
    if types.max(initial=0) >= count:
        raise DatasetError(f"{path}: type_map holds {types.max()} where 0 to {count - 1} are expected")
    votes = np.bincount(label.ravel() * count + types.ravel(), minlength=(label.max(initial=0) + 1) * count)
    votes = votes.reshape(-1, count)[numbers]
    untyped = numbers[votes[:, 1:].sum(1) == 0]
    if len(untyped):
        raise DatasetError(f"{path}: object {untyped[0]} has no type in type_map; it is not the official file")
    return votes[:, 1:].argmax(1)


def _of(
    found: list[Found],
    place: Path,
    name: str,
    release: Release,
    pattern: str,
    means: Mapping[str, str] | None = None,
    **classes,
) -> Localised:
    """Return the set of what was found, and say which folder is for what; `means` is what else a split means."""
    if not found:
        raise DatasetError(f"{place} has no {pattern}; {advice(name)}")
    names, folders = [one[0] for one in found], [one[1] for one in found]
    images, labels = [one[2] for one in found], [one[3] for one in found]
    by_folder = Counter(map(_official, folders))
    used = {"": "train", **{split: split for split in SPLITS}, **(means or {})}
    official = [used[_official(folder)[0]] for folder in folders]
    if any(split for split, _ in by_folder):
        where = (
            f"{count} in {folder} {'are' if split else 'name no split and are'} for {used[split]}"
            for (split, folder), count in by_folder.items()
        )
        say(f"{name}: by the names of folders, {', '.join(sorted(where, key=natural_key))}")
    if len(set(official)) < 2:
        say(f"{name}: all images are for {official[0]}, by the names of folders in {place}; runs split them by group")
    if len(set(names)) < len(names):  # as in CPM17, whose splits both start with image_00
        names = [f"{split}_{which}" for which, split in zip(names, official, strict=True)]
    twice = next((which for which in names if names.count(which) > 1), None)
    if twice:
        raise DatasetError(f"{place} has image {twice!r} twice; leave one")
    return of_labels(
        name,
        names,
        images,
        labels,
        groups=[release.group(which) for which in names],
        official=official if len(set(official)) > 1 else None,
        **{"class_names": (release.what,), **classes},
    )


def _files(place: Path, pattern: str) -> Iterator[Path]:
    """Yield files of a pattern at any depth, in natural order, but for stray ones, which archives from a Mac bring."""
    return iter(listed(place, f"**/{pattern}", DatasetError))


def _all_read(images: Iterator[Path], used: list[Path]) -> None:
    known = set(used)
    alone = next((image for image in images if image not in known), None)
    if alone:
        raise DatasetError(f"{alone} has no labels; complete the release")


def _official(folder: Path) -> tuple[str, str]:
    """Return the split that the innermost folder says that has words of one split, and this folder; MoNuSegTestData.

    The split is empty where none has; the folder is then the outermost.
    """
    for name in reversed(folder.parts):
        words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)
        said = {str(found.lastgroup) for word in words if (found := WORDS.fullmatch(word.lower()))}
        if len(said) == 1:
            return said.pop(), name
    return "", folder.parts[0] if folder.parts else "."


OWN = Release()
RELEASES = {
    "tnbc": Release("nucleus", lambda name: name.split("_")[0], read_tnbc, images=50),
    "monuseg": Release("nucleus", patient, read_regions, images=30),
    "kumar": Release("nucleus", patient, read_regions, thirty, images=30),
    "cpm15": Release("nucleus", read=read_masks_of_text, images=15),
    "cpm17": Release("nucleus", read=read_masks_of_text, images=64),
    "consep": Release("nucleus", read=read_consep, images=41),
    "crchisto": Release("nucleus", read=read_crchisto, images=100),
    "wbc_nuclick": Release("white blood cell", read=read_nuclick, images=1463),
    "til": Release("cell"),
}
