import torch
from torch.nn import functional as F

from megavit.data_check.label_issues import OutOfFoldPredictions, review_labels
from tests.helpers.labeled_images import make_labeled_images, make_scene

CLASSES = ("ant", "bee", "cow")
LABELS = [place % 3 for place in range(90)]


def judged(shares, labels=LABELS):
    images = make_labeled_images([make_scene(0, side=8)] * len(labels), labels, classes=CLASSES)
    return review_labels(images, OutOfFoldPredictions(shares, torch.arange(len(labels)), "a judge"))


def sure_of(labels, share=0.97):
    return F.one_hot(torch.tensor(labels), 3) * (share - (1 - share) / 2) + (1 - share) / 2


def test_wrong_labels_are_found_with_their_likelier_class_the_surest_first():
    given = LABELS.copy()
    given[4], given[8] = 2, 0
    answer = judged(sure_of(LABELS), given)
    assert [(one.kind, one.images[0], one.suggested_label) for one in answer.findings] == [
        ("label_error", "0004.png", "bee"),
        ("label_error", "0008.png", "cow"),
    ]
    assert answer.findings[0].message.startswith("labeled cow, looks like bee: ")
    assert answer.agreement == 88 / 90 and answer.images == 90


def test_answers_no_better_than_chance_judge_nothing():
    shares = torch.rand(90, 3, generator=torch.Generator().manual_seed(0)).softmax(dim=1)
    answer = judged(shares)
    assert answer.is_weak and answer.findings == []


def test_classes_taken_for_each_other_look_alike():
    truth = [1 if label == 0 and place % 2 else label for place, label in enumerate(LABELS)]
    answer = judged(sure_of(truth, 0.6))
    (alike,) = [one for one in answer.findings if one.kind == "confusable_classes"]
    assert alike.message.startswith("ant and bee: 25% ") and alike.images == ()


def test_places_say_which_images_were_judged():
    images = make_labeled_images([make_scene(0, side=8)] * 90, LABELS, classes=CLASSES)
    wrong = LABELS[30:]
    shares = sure_of(wrong)
    shares[0] = torch.tensor([0.01, 0.98, 0.01])
    answer = review_labels(images, OutOfFoldPredictions(shares, torch.arange(30, 90), "a judge"))
    assert [one.images for one in answer.findings] == [("0030.png",)] and answer.images == 60
