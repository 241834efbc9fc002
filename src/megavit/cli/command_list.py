"""List the commands, so that `megavit --help` imports none of them."""

COMMANDS = {
    "demo": "Train, evaluate and predict on bundled images of digits: everything once, in under a minute.",
    "label": "Label a folder of images on a page in the browser.",
    "check": "Check a data set for broken files, duplicates, label errors and more.",
    "pretrain": "Learn features from images without labels, and write them as a bundle.",
    "train": "Train a Vision Transformer on your images and write it as a bundle.",
    "add": "Add classes, or more images of known ones, to a trained bundle in seconds.",
    "remove": "Remove classes from a trained bundle.",
    "evaluate": "Evaluate a bundle on labeled images: every metric with its 95% confidence interval.",
    "predict": "Predict the classes (or numbers) of images, one line per image.",
    "explain": "Explain predictions with heat maps: which parts of an image they are based on.",
    "embed": "Compute embeddings: the model's feature vector of each image.",
    "search": "Find the most similar images, and copies, among those that the bundle was trained and tested on, "
    "or others.",
    "calibrate": "Calibrate a bundle's probabilities, prediction sets and out-of-distribution threshold.",
    "quantize": "Quantize a bundle to int8 for CPUs, if the loss of accuracy is small.",
    "export": "Export a bundle for another runtime, verified on real images.",
    "backbones": "List the pretrained models that training starts from by itself, or fetch one.",
    "convert": "Convert a Vision Transformer of another library into a bundle, or a bundle into theirs.",
    "push": "Upload a run's bundle, with its model card, to the Hugging Face hub.",
    "serve": "Serve models over HTTP, with a web page to drop images on.",
    "shard": "Pack images into WebDataset shards: a few large files that disks and object stores read fast.",
    "bench": "Benchmark MegaVit on this machine against timm, vit-pytorch, transformers and others.",
    "plan": "Estimate the memory, communication and step time of a training on a GPU cluster.",
}
"""The first sentence of each command's docstring by its name, in the order of --help."""
