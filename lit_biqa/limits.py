"""Limits on input from outside: each is checked before memory is taken and named in its error.

They lie far above what the field uses, and low enough that a file of a few kilobytes cannot take
minutes or gigabytes.
"""

from __future__ import annotations

#: Width times height of an image. A camera's 12,000 x 9,000 passes, which takes 324 MB as RGB; a
#: PNG of a few hundred kilobytes can announce any size. Setting: `data.images.max_pixels`.
IMAGE_PIXELS = 12_000 * 9_000

#: Shorter side of an image that is rated, in pixels: one block of JPEG. A smaller image, such as an
#: icon or a tracking pixel, shows nothing that people would rate.
RATED_SIDE = 8

#: Largest ratio of the longer to the shorter side in Qwen2.5-VL (`smart_resize` of transformers).
IMAGE_RATIO = 200

#: Prototypes of a scorer; there is at most one per training image.
PROTOTYPES = 1_000_000

#: Layers of an image tower. CLIP's largest has 48.
TOWER_LAYERS = 256

#: Any other integer that describes an image tower. CLIP's widest layer has 8,192.
TOWER_WIDTH = 32_768

#: Vocabulary size of a text tower. SigLIP 2 has 256,000.
VOCABULARY = 1_000_000

#: Side of a tower's input in pixels. The largest in use is 1,024.
TOWER_SIDE = 4_096

#: Nodes of a YAML document with its aliases expanded. A recipe has about a hundred.
YAML_NODES = 100_000

#: Bytes of a YAML document. A recipe has a few kB.
YAML_BYTES = 2 * 2**20

#: Nesting of YAML and JSON. Conversations nest five deep; Python's own parsers fail at 1,000.
NESTING = 64

#: Digits of one number in JSON. A double has 17; Python takes quadratic time to parse them.
NUMBER_DIGITS = 1_000

#: Unpacked bytes of a workbook's parts. A label file of 10,000 images unpacks to a few MB; openpyxl
#: takes about ten times the memory of a part.
WORKBOOK_BYTES = 64 * 2**20

#: Cells of a sheet. A label file of 10,000 images and ten columns has 100,000.
WORKBOOK_CELLS = 2_000_000

#: Unpacked bytes of a MATLAB file. A label file of 1,000 images has a few hundred kB.
MATLAB_BYTES = 64 * 2**20

#: Characters per line of a CSV or text file of labels. The csv module reads cells of at most
#: 131,072.
LABEL_LINE = 2**20

#: Bytes of any other label file, which is read as a whole.
LABEL_BYTES = 2 * 2**30

#: Bytes of a metric's parameters. The 774 support vectors of BRISQUE take 0.4 MB.
METRIC_BYTES = 16 * 2**20

#: Bytes of a picture that is sent to a server. Noise of 12,845,056 pixels, the most that Qwen2.5-VL
#: takes, makes a PNG of 38 MB.
SENT_BYTES = 64 * 2**20

#: Characters of a server's answer for each token that it was allowed. Tokens of words have a few,
#: those of indentation some tens.
CHARACTERS_PER_TOKEN = 256

#: Bytes of one picture that is uploaded to `lit_biqa serve`. A camera's JPEG has 5 to 25 MB.
UPLOAD_BYTES = 32 * 10**6

#: Width times height of an uploaded picture. The main cameras of phones have 12 to 50 megapixels;
#: as RGB these take 150 MB, with transparency 350 MB while they are opened.
UPLOAD_PIXELS = 50_000_000

#: Pictures of one request.
UPLOAD_PICTURES = 100

#: Bytes of one request, all its pictures together.
REQUEST_BYTES = 256 * 10**6

#: Seconds of one request, from its first byte to its answer.
REQUEST_SECONDS = 60

#: Requests of one client address in a minute. A person who tries picture after picture makes two a
#: picture.
REQUESTS_PER_MINUTE = 240

#: Pictures of all clients that wait to be scored. A light scorer takes tens of them a second.
WAITING_PICTURES = 400

#: Pictures of all clients that wait for a model that writes, which takes seconds for each.
WAITING_WRITTEN = 16
