"""Limits on what comes from outside: each is named in its error and checked before memory is taken.

They stand far above what the field uses, and low enough that no file of a few kilobytes takes
minutes or gigabytes.
"""

from __future__ import annotations

#: Width times height of an image. A camera's 12,000 x 9,000 passes, which takes 324 MB as RGB;
#: a few hundred kilobytes of PNG may announce any number. Setting: `data.images.max_pixels`.
IMAGE_PIXELS = 12_000 * 9_000

#: Pixels of the shorter side of an image that is rated: one block of JPEG. What is smaller, such as
#: an icon or a tracking pixel, shows nothing that people would rate.
RATED_SIDE = 8

#: Longer over shorter side that Qwen2.5-VL takes (its own rule, `smart_resize` of transformers).
IMAGE_RATIO = 200

#: Prototypes of a scorer. There is at most one per training image.
PROTOTYPES = 1_000_000

#: Layers of an image tower. CLIP's largest has 48.
TOWER_LAYERS = 256

#: Any other whole number that describes an image tower. CLIP's widest layer has 8,192.
TOWER_WIDTH = 32_768

#: Words of a text tower's vocabulary. SigLIP 2 has 256,000.
VOCABULARY = 1_000_000

#: Side of a tower's input, in pixels. The largest in use is 1,024.
TOWER_SIDE = 4_096

#: Nodes of a YAML document once its aliases are written out. A recipe has about a hundred.
YAML_NODES = 100_000

#: Bytes of a YAML document. A recipe has a few kB.
YAML_BYTES = 2 * 2**20

#: Nesting of YAML and JSON. Conversations nest five deep; Python's own parsers give out at 1,000.
NESTING = 64

#: Digits of one number in JSON. A double has 17; Python takes quadratic time in them.
NUMBER_DIGITS = 1_000

#: Bytes of a workbook's parts once unpacked. A label file of 10,000 images unpacks to a few MB;
#: openpyxl takes about ten times as much memory as a part has.
WORKBOOK_BYTES = 64 * 2**20

#: Cells of a sheet. A label file of 10,000 images with ten columns has 100,000.
WORKBOOK_CELLS = 2_000_000

#: Bytes of a MATLAB file once unpacked. That of 1,000 images has a few hundred kB.
MATLAB_BYTES = 64 * 2**20

#: Characters of one line of a CSV or text file of labels. The csv module reads no cell of more than
#: 131,072.
LABEL_LINE = 2**20

#: Bytes of a label file of any other kind, which is read as a whole.
LABEL_BYTES = 2 * 2**30
