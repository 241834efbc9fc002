"""Tables and folders as other tools lay them out are read, or refused with the sentence that mends it."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from megavit.config.recipe import DataRecipe
from megavit.data.load import load_data
from megavit.errors import DataError

LABELS = {f"{number:03d}": "cat" if number % 2 else "dog" for number in range(12)}
"""The images of each layout, by their names without suffix, with their classes."""


def picture(name: str) -> bytes:
    pixels = np.random.default_rng(int(name)).integers(0, 256, (8, 9, 3), np.uint8)
    target = io.BytesIO()
    Image.fromarray(pixels).save(target, "PNG")
    return target.getvalue()


def fill(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names or LABELS:
        (folder / f"{name}.png").write_bytes(picture(name))


def lines(header: str, row: Callable[[str, str], str], names: dict[str, str] = LABELS) -> str:
    return "\n".join((header, *(row(name, label) for name, label in names.items()))) + "\n"


def kaggle_ids(root: Path) -> Path:
    fill(root / "train")
    (root / "test").mkdir()
    (root / "test" / "900.png").write_bytes(picture("900"))
    (root / "labels.csv").write_text(lines("id,breed", lambda name, label: f"{name},{label}"))
    return root / "labels.csv"


def kaggle_image_ids(root: Path) -> Path:
    fill(root / "train_images")
    (root / "train.csv").write_text(lines("image_id,label", lambda name, label: f"{name}.png,{label}"))
    return root / "train.csv"


def kaggle_numbers(root: Path) -> Path:
    fill(root / "train")
    for name in LABELS:
        (root / "train" / f"{name}.png").rename(root / "train" / f"{int(name)}.png")
    (root / "trainLabels.csv").write_text(lines("id,label", lambda name, label: f"{int(name)},{label}"))
    return root / "trainLabels.csv"


def kaggle_nested(root: Path) -> Path:
    fill(root / "jpeg" / "train")
    (root / "train.csv").write_text(lines("image_name,diagnosis", lambda name, label: f"{name},{label}"))
    return root / "train.csv"


def filename_class(root: Path) -> Path:
    fill(root)
    (root / "_classes.csv").write_text(lines("filename, class", lambda name, label: f"{name}.png, {label}"))
    return root / "_classes.csv"


def semicolons_and_a_mark(root: Path) -> Path:
    fill(root)
    text = lines("Dateiname;Klasse;Notiz", lambda name, label: f"{name}.png;{label};ä, ö")
    (root / "bilder.csv").write_text(text.replace("Dateiname;Klasse", "File Name;Class"), encoding="utf-8-sig")
    return root / "bilder.csv"


def tabs_of_autogluon(root: Path) -> Path:
    fill(root)
    (root / "train.tsv").write_text(lines("image\tlabel", lambda name, label: f"{root / name}.png\t{label}"))
    return root / "train.tsv"


def fastai(root: Path) -> Path:
    fill(root / "train")
    (root / "train.csv").write_text(
        lines("fname,labels,is_valid", lambda name, label: f"{name}.png,{label}|seen,{int(name) > 8}")
    )
    return root / "train.csv"


def metadata_csv(root: Path) -> Path:
    fill(root)
    (root / "metadata.csv").write_text(lines("file_name,label", lambda name, label: f"{name}.png,{label}"))
    return root


def metadata_jsonl_by_split(root: Path) -> Path:
    names = list(LABELS)
    for split, part in (("train", names[:8]), ("validation", names[8:10]), ("test", names[10:])):
        fill(root / split, *part)
        records = [json.dumps({"file_name": f"{name}.png", "label": LABELS[name]}) for name in part]
        (root / split / "metadata.jsonl").write_text("\n".join(records))
    return root


def json_lines(root: Path) -> Path:
    fill(root / "images")
    records = [{"image": f"images/{name}.png", "label": ["dog", "cat"].index(label)} for name, label in LABELS.items()]
    (root / "data.jsonl").write_text("\n".join(map(json.dumps, records)))
    return root / "data.jsonl"


def coco(root: Path, extra: list[dict] | None = None, box: bool = False) -> Path:
    fill(root / "images")
    ids = {"cat": 3, "dog": 7}
    shape = {"bbox": [0, 0, 4, 4]} if box else {}
    content = {
        "images": [{"id": int(name), "file_name": f"{name}.png", "width": 9, "height": 8} for name in LABELS],
        "annotations": [
            {"id": int(name), "image_id": int(name), "category_id": ids[label], **shape}
            for name, label in LABELS.items()
        ]
        + (extra or []),
        "categories": [{"id": number, "name": name} for name, number in ids.items()],
    }
    (root / "annotations").mkdir()
    (root / "annotations" / "instances.json").write_text(json.dumps(content))
    return root / "annotations" / "instances.json"


def coco_boxes(root: Path) -> Path:
    return coco(root, box=True)


def roboflow_coco(root: Path) -> Path:
    coco(root)
    fill(root)
    (root / "annotations" / "instances.json").rename(root / "_annotations.coco.json")
    return root / "_annotations.coco.json"


def label_studio(root: Path) -> Path:
    fill(root / "photos")
    tasks = [
        {
            "id": int(name),
            "data": {"image": f"/data/upload/1/0a1b2c3d-{name}.png"},
            "annotations": [
                {"result": [{"type": "choices", "value": {"choices": [label]}}], "was_cancelled": False},
                {"result": [], "was_cancelled": True},
            ],
        }
        for name, label in LABELS.items()
    ]
    tasks.append({"id": 99, "data": {"image": "/data/upload/1/0a1b2c3d-099.png"}, "annotations": []})
    (root / "project-1.json").write_text(json.dumps(tasks))
    return root / "project-1.json"


def label_studio_minimal(root: Path) -> Path:
    fill(root / "photos")
    tasks = [
        {"id": int(name), "image": f"/data/local-files/?d=photos/{name}.png", "choice": label, "annotation_id": 1}
        for name, label in LABELS.items()
    ]
    (root / "project-1-min.json").write_text(json.dumps(tasks))
    return root / "project-1-min.json"


def label_studio_csv(root: Path) -> Path:
    fill(root)
    text = lines("annotation_id,choice,id,image", lambda name, label: f"1,{label},{int(name)},{name}.png")
    (root / "project-1.csv").write_text(text)
    return root / "project-1.csv"


def google_cloud(root: Path) -> Path:
    """A table without a header, as Vertex AI imports it."""
    fill(root)
    (root / "import.csv").write_text(lines("TRAIN,000.png,dog", lambda name, label: f"TRAIN,{name}.png,{label}"))
    return root / "import.csv"


def utf_16(root: Path) -> Path:
    fill(root)
    (root / "excel.csv").write_text(lines("path\tlabel", lambda name, label: f"{name}.png\t{label}"), encoding="utf-16")
    return root / "excel.csv"


def windows_1252(root: Path) -> Path:
    fill(root)
    (root / "data.csv").write_bytes(lines("path,label", lambda name, label: f"{name}.png,{label}é").encode("cp1252"))
    return root / "data.csv"


def spreadsheet(root: Path) -> Path:
    (root / "data.csv").write_bytes(b"PK\x03\x04" + bytes(100))
    return root / "data.csv"


def one_hot(root: Path) -> Path:
    fill(root / "images")
    text = lines("image_id,cat,dog", lambda name, label: f"{name},{int(label == 'cat')},{int(label == 'dog')}")
    (root / "train.csv").write_text(text)
    return root / "train.csv"


def isic(root: Path) -> Path:
    fill(root / "ISIC_2019_Training_Input")
    row = "{name},{cat:.1f},{dog:.1f},0.0"
    text = lines("image,cat,dog,UNK", lambda name, label: row.format(name=name, cat=label == "cat", dog=label == "dog"))
    (root / "ISIC_2019_Training_GroundTruth.csv").write_text(text)
    return root / "ISIC_2019_Training_GroundTruth.csv"


def get_dummies(root: Path) -> Path:
    """A table of pandas, with its index."""
    fill(root)
    text = lines(",file,dog,cat", lambda name, label: f"{int(name)},{name}.png,{label == 'dog'},{label == 'cat'}")
    (root / "dummies.csv").write_text(text)
    return root / "dummies.csv"


def patients(root: Path) -> Path:
    fill(root)
    (root / "full_df.csv").write_text(lines("ID,Patient Age,N,D", lambda name, label: f"{name},69,0,1"))
    return root / "full_df.csv"


def windows_paths(root: Path) -> Path:
    fill(root / "images")
    (root / "set.csv").write_text(lines("file,class", lambda name, label: rf"D:\cats\images\{name}.png,{label}"))
    return root / "set.csv"


def absolute_paths(root: Path) -> Path:
    """Paths of the machine on which the table was written, of which the classes' folders are kept."""
    for name, label in LABELS.items():
        fill(root / "data" / label, name)
    text = lines("filepath\tlabel", lambda name, label: f"/home/anna/data/{label}/{name}.png\t{label}")
    (root / "list.tsv").write_text(text)
    return root / "list.tsv"


def kaggle_input(root: Path) -> Path:
    fill(root / "train")
    (root / "train.csv").write_text(lines("path,label", lambda name, label: f"../input/dogs/train/{name}.png,{label}"))
    return root / "train.csv"


def image_folder(root: Path) -> Path:
    for name, label in LABELS.items():
        fill(root / label, name)
    return root


def by_split(root: Path, *splits: str, within: str = "{label}") -> Path:
    for number, (name, label) in enumerate(LABELS.items()):
        split = splits[0 if number < 8 else 1 if number < 10 else -1]
        fill(root / split / within.format(label=label), name)
    return root


def ultralytics(root: Path) -> Path:
    by_split(root, "train", "val", "test")
    (root / "train.cache").write_bytes(b"labels")
    return root


def roboflow_folders(root: Path) -> Path:
    by_split(root, "train", "valid", "test")
    (root / "README.roboflow.txt").write_text("exported via roboflow.com")
    return root


def roboflow_multilabel(root: Path) -> Path:
    """Folders of images with a table each, where each image happens to have one class."""
    by_split(root, "train", "valid", "test", within="")
    for folder in ("train", "valid", "test"):
        names = {path.stem: LABELS[path.stem] for path in (root / folder).iterdir()}
        text = lines("filename, cat, dog", lambda n, c: f"{n}.png, {int(c == 'cat')}, {int(c == 'dog')}", names)
        (root / folder / "_classes.csv").write_text(text)
    return root


def cub(root: Path) -> Path:
    image_folder(root / "images")
    (root / "classes.txt").write_text("1 cat\n2 dog\n")
    return root


def metadata_jsonl(root: Path) -> Path:
    fill(root)
    records = [{"file_name": f"{name}.png", "label": label, "text": "a photo"} for name, label in LABELS.items()]
    (root / "metadata.jsonl").write_text("\n".join(map(json.dumps, records)))
    return root


def ham10000(root: Path) -> Path:
    fill(root / "images")
    (root / "metadata_list.csv").write_text(
        lines("lesion_id,image_id,dx,dx_type,age", lambda name, label: f"HAM{name},{name},{label},histo,50")
    )
    return root / "metadata_list.csv"


def two_folders(root: Path) -> Path:
    kaggle_ids(root)
    fill(root / "train_small")
    return root / "labels.csv"


def captions(root: Path) -> Path:
    fill(root, *(f"{number:03d}" for number in range(40)))
    rows = "".join(f"{number:03d}.png,a photo of number {number}\n" for number in range(40))
    (root / "captions.csv").write_text(f"filename,caption\n{rows}")
    return root / "captions.csv"


def prices(root: Path) -> Path:
    fill(root)
    (root / "houses.csv").write_text(lines("filename,price", lambda name, label: f"{name}.png,{int(name) % 5}.5"))
    return root / "houses.csv"


def yolo(root: Path) -> Path:
    fill(root / "images")
    (root / "labels").mkdir()
    for name in LABELS:
        (root / "labels" / f"{name}.txt").write_text("0 0.5 0.5 1 1\n")
    return root


def coco_captions(root: Path) -> Path:
    return coco(root, [{"id": 99, "image_id": 0, "caption": "a dog"}])


def label_studio_boxes(root: Path) -> Path:
    task = {
        "id": 5,
        "data": {"image": "a.png"},
        "annotations": [{"result": [{"type": "rectanglelabels", "value": {}}]}],
    }
    (root / "boxes.json").write_text(json.dumps([task]))
    return root / "boxes.json"


def no_images(root: Path) -> Path:
    kaggle_ids(root)
    for name in LABELS:
        (root / "train" / f"{name}.png").unlink()
    return root / "labels.csv"


def yolo_by_split(root: Path) -> Path:
    fill(root / "images" / "train")
    (root / "labels" / "train").mkdir(parents=True)
    for name in LABELS:
        (root / "labels" / "train" / f"{name}.txt").write_text("0 0.5 0.5 1 1\n")
    return root


def pixels(root: Path) -> Path:
    (root / "train.csv").write_text("label," + ",".join(f"pixel{index}" for index in range(64)) + "\n3" + ",0" * 64)
    return root / "train.csv"


def names_with_classes(root: Path) -> Path:
    fill(root)
    for name, label in LABELS.items():
        (root / f"{name}.png").rename(root / f"{label}.{name}.png")
    return root


def label_studio_csv_choices(root: Path) -> Path:
    fill(root)
    (root / "project-1.csv").write_text(
        lines("image,choice", lambda name, _: f'{name}.png,"{{""choices"": [""a"",""b""]}}"')
    )
    return root / "project-1.csv"


def geojson(root: Path) -> Path:
    (root / "map.json").write_text('{"type": "FeatureCollection", "features": []}')
    return root / "map.json"


READ = [
    *(kaggle_ids, kaggle_image_ids, kaggle_numbers, kaggle_nested, filename_class, semicolons_and_a_mark),
    *(
        tabs_of_autogluon,
        utf_16,
        one_hot,
        isic,
        get_dummies,
        metadata_csv,
        metadata_jsonl_by_split,
        coco,
        coco_boxes,
        roboflow_coco,
    ),
    *(label_studio, label_studio_minimal, label_studio_csv, windows_paths, absolute_paths, kaggle_input),
    *(image_folder, ultralytics, roboflow_folders, roboflow_multilabel, cub, metadata_jsonl),
]
REFUSED: dict[Callable[[Path], Path], str] = {
    google_cloud: r"which of its columns are the images and the labels is not clear.*path,label,split",
    windows_1252: "line 2: not UTF-8 text. In Windows-1252, .* it has '000.png,dogé'.*iconv -f CP1252 -t UTF-8",
    spreadsheet: "is a spreadsheet or a compressed file, not text: save it as CSV UTF-8",
    patients: r"Patient Age, N, D: name them .*columns of 0 and 1, one for each class, are read if .* no others",
    ham10000: "lesion_id, image_id, dx, dx_type, age: name them with --path-column and --label-column",
    two_folders: r"several folders, train, train_small: pass the one to use with --image-root",
    captions: r"'caption' .* has 40 different values for 40 images.*call it score.*--label-column",
    prices: "'price' .* has numbers with decimals, such as 0.5.*call it score to predict a number",
    yolo: "seem to be images and their annotations",
    coco_captions: "annotation 12 .* has no category_id, as captions and keypoints have none",
    label_studio_boxes: "the task 5 .* has 'rectanglelabels', but only choices can be labels of images",
    no_images: "none of the 12 images that .* lists is there, such as '000': pass the folder .* with --image-root",
    yolo_by_split: "seem to be images and their annotations",
    pixels: r"are the pixels of images, not their paths: .* pass megavit.train the pixels as an array",
    names_with_classes: r"no class folders.*or a table of images and classes, such as DATA.csv",
    label_studio_csv_choices: "several choices of Label Studio: export them as JSON instead of CSV",
    geojson: "a JSON file can be a list of records",
}


@pytest.mark.parametrize("layout", READ, ids=lambda layout: layout.__name__)
def test_layouts_are_read_with_every_image_and_its_class(layout, tmp_path):
    images = load_data(layout(tmp_path), DataRecipe())
    found = {Path(sample.name).stem.zfill(3): images.classes[sample.label] for sample in images.samples}
    assert found == LABELS
    assert images.classes == ("cat", "dog")
    for sample in images.samples:
        images.load_pixels(sample)


@pytest.mark.parametrize("layout", REFUSED, ids=lambda layout: layout.__name__)
def test_other_layouts_are_refused_with_the_sentence_that_mends_them(layout, tmp_path):
    with pytest.raises(DataError, match=rf"(?s){REFUSED[layout]}"):
        load_data(layout(tmp_path), DataRecipe())


@pytest.mark.parametrize(
    ("layout", "recipe"),
    [
        (ham10000, DataRecipe(label_column="dx")),
        (ham10000, DataRecipe(label_column="DX", path_column="image_id")),
        (two_folders, DataRecipe(image_root="train")),
    ],
)
def test_what_is_refused_is_read_as_the_sentence_says(layout, recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    images = load_data(layout(tmp_path), recipe)
    assert {Path(sample.name).stem: images.classes[sample.label] for sample in images.samples} == LABELS


def test_a_column_that_is_not_there_is_said_with_those_that_are(tmp_path):
    with pytest.raises(DataError, match="has no column 'kind', as --label-column says; its columns are id, breed"):
        load_data(kaggle_ids(tmp_path), DataRecipe(label_column="kind"))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("data.xlsx", "is a spreadsheet: save it as CSV UTF-8"),
        ("data.txt", r"if it is a table with a header, name it \.csv or \.tsv"),
        ("data.zip", "is an archive: unpack it, and pass the folder"),
        ("data.yaml", "is no table: pass the folder of its images"),
        ("train.tfrecord", "is a database: write its images into a folder for each class"),
        ("data.npz", r"is a file of arrays: read it in Python, .*\(images, labels\)"),
        ("data.xyz", "is a file of another kind"),
    ],
)
def test_files_of_other_kinds_are_refused_with_what_to_do(name, said, tmp_path):
    (tmp_path / name).write_bytes(b"content")
    with pytest.raises(DataError, match=said):
        load_data(tmp_path / name, DataRecipe())


def test_paths_of_another_machine_are_found_below_the_folder_that_is_given(tmp_path):
    table = absolute_paths(tmp_path)
    with pytest.raises(DataError, match=r"none of the 12 images .*: pass the folder .* with --image-root"):
        load_data(table.rename(tmp_path / "data" / "cat" / "list.tsv"), DataRecipe())
    images = load_data(tmp_path / "data" / "cat" / "list.tsv", DataRecipe(image_root=str(tmp_path / "data")))
    assert images.notes == (
        "the images are read from the folder '..'",
        "12 names in the table are read without '/home/anna/data/' at their beginning, which is no folder here",
    )
    assert len(images.samples) == 12


def test_a_name_in_several_folders_of_another_machine_is_not_guessed(tmp_path):
    """Only the beginning that all paths share may be left out."""
    fill(tmp_path)
    (tmp_path / "a.csv").write_text(lines("path,label", lambda name, label: f"/data/{label}/{name}.png,{label}"))
    with pytest.raises(DataError, match="none of the 12 images"):
        load_data(tmp_path / "a.csv", DataRecipe())


def test_how_a_layout_was_read_is_remarked_on(tmp_path):
    notes = load_data(kaggle_ids(tmp_path), DataRecipe()).notes
    assert notes == (
        "the images are read from the column 'id', and their labels from 'breed'",
        "the images are read from the folder 'train'",
        "found 12 by their names in the table, which have no suffix",
    )


def test_fastais_table_keeps_its_split_and_labels(tmp_path):
    images = load_data(fastai(tmp_path), DataRecipe(test=0))
    assert (images.target, images.classes) == ("multilabel", ("cat", "dog", "seen"))
    assert images.split_sizes() == {"train": 9, "val": 3, "test": 0}


def test_splits_of_metadata_are_those_of_their_folders(tmp_path):
    images = load_data(metadata_jsonl_by_split(tmp_path), DataRecipe())
    assert images.split_sizes() == {"train": 8, "val": 2, "test": 2}
    (tmp_path / "test" / "metadata.jsonl").unlink()
    with pytest.raises(DataError, match="in 'train', 'validation', but none in 'test'"):
        load_data(tmp_path, DataRecipe())


def test_a_table_named_metadata_about_something_else_leaves_class_folders_alone(tmp_path):
    for name, label in LABELS.items():
        fill(tmp_path / label, name)
    (tmp_path / "metadata.csv").write_text("author,license,year\nme,CC0,2020\n")
    assert load_data(tmp_path, DataRecipe()).classes == ("cat", "dog")


def test_json_lines_may_be_utf_16_as_powershell_writes_them(tmp_path):
    path = json_lines(tmp_path)
    path.write_text(path.read_text(), encoding="utf-16")
    assert len(load_data(path, DataRecipe()).samples) == len(LABELS)
    path.write_bytes(b'{"path": "caf\xe9.png"}')
    with pytest.raises(DataError, match="is not UTF-8 text: save it as UTF-8"):
        load_data(path, DataRecipe())


def test_numbers_of_classes_in_json_lines_are_their_names(tmp_path):
    images = load_data(json_lines(tmp_path), DataRecipe())
    assert images.classes == ("0", "1")


def test_several_categories_of_an_image_are_several_labels(tmp_path):
    images = load_data(coco(tmp_path, [{"image_id": 0, "category_id": 3}], box=True), DataRecipe())
    assert (images.target, images.classes) == ("multilabel", ("cat", "dog"))
    assert {sample.name: sample.labels for sample in images.samples}["../images/000.png"] == (0, 1)
    assert any("several categories" in note for note in images.notes)
    assert any("boxes and outlines are not used" in note for note in images.notes)


def test_answers_of_two_people_that_differ_are_refused(tmp_path):
    path = label_studio(tmp_path)
    tasks = json.loads(path.read_text())
    tasks[0]["annotations"][1] = {"result": [{"type": "choices", "value": {"choices": ["cat"]}}]}
    path.write_text(json.dumps(tasks))
    with pytest.raises(DataError, match=r"the task 0 .* is annotated as 'cat' and as 'dog': keep one of them"):
        load_data(path, DataRecipe())


@pytest.mark.parametrize("text", ["", "{", "[[1]]", '[{"path": "1.png"}, 5]', "[" * 100_000, "[]", "null"])
def test_json_of_no_known_kind_is_refused(text, tmp_path):
    (tmp_path / "data.json").write_text(text)
    with pytest.raises(DataError, match=r"not valid JSON|no table|must be an object|not clear|no records"):
        load_data(tmp_path / "data.json", DataRecipe())
