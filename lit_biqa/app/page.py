"""The page: pictures are dropped, scored, distorted and written about; nothing of them is kept."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio.to_thread
import gradio as gr
from PIL import Image

from lit_biqa.analysis.case import Case
from lit_biqa.app import sheet
from lit_biqa.app.batches import QueueFull
from lit_biqa.app.distortions import KINDS, levels_of, scaled
from lit_biqa.app.pictures import Picture, open_picture
from lit_biqa.app.service import Service
from lit_biqa.app.uploads import Uploads
from lit_biqa.data.distortions import LEVELS
from lit_biqa.io.data_urls import webp_url

_NEAREST = 5  # prototypes shown for each picture
_AT_ONCE = 16  # requests of the page that are answered at once; others wait in gradio's queue

# Names and paths of what was dropped, as text: files themselves gradio would copy.
_NAMES = (
    "(files, _) => [null, JSON.stringify([files ?? []].flat().map("
    "(file) => [file.orig_name, file.path]))]"
)
_DOWNLOAD = """(text) => {
    const link = document.createElement('a');
    link.href = URL.createObjectURL(new Blob([text], {type: 'text/csv'}));
    link.download = 'scores.csv';
    link.click();
    URL.revokeObjectURL(link.href);
}"""
_SHOW = """(kind, level) => {
    document.querySelectorAll('.variants figure').forEach((figure) => {
        figure.hidden = figure.dataset.kind !== kind || figure.dataset.level !== String(level);
    });
}"""

Update = dict[Any, Any]


class Page:
    """The gradio page of a server.

    Args:
        service: what answers.
        uploads: folder of the files that clients send.
    """

    def __init__(self, service: Service, uploads: Uploads) -> None:
        self.service, self.uploads = service, uploads
        self.kinds = (service.scoring is not None, service.writing is not None)
        self._openers = anyio.CapacityLimiter(2)  # pictures decoded at once
        with gr.Blocks(analytics_enabled=False, title="lit_biqa", delete_cache=(60, 60)) as blocks:
            self._lay_out()
        self.blocks = blocks

    def _lay_out(self) -> None:
        gr.HTML(sheet.heading(self.service.title, self.service.limits))
        with gr.Row():
            self.dropped = gr.File(
                file_count="multiple",
                label="Pictures",
                height=150,
                elem_id="pictures",
                scale=4,
                min_width=300,
            )
            folder = gr.UploadButton(
                "Choose a folder", file_count="directory", elem_id="folder", min_width=200, scale=1
            )
        names = gr.Textbox(visible=False)
        self.said = gr.HTML(elem_id="said")
        with gr.Row():
            with gr.Column(visible=False, scale=3, elem_id="results") as self.results:
                self.table = gr.Dataframe(
                    headers=sheet.columns(*self.kinds),
                    interactive=False,
                    label="Scores (the menu of a heading sorts)",
                    elem_id="table",
                )
                self.csv = gr.Textbox(visible=False)
                download = gr.Button("Download CSV", size="sm", elem_id="download")
                self.written = gr.HTML(elem_id="written", visible=self.kinds[1])
                self.details = gr.HTML(elem_id="details")
            with gr.Column(visible=False, scale=2, elem_id="distortions") as self.distorted:
                kinds = [(name, kind) for kind, name in KINDS.items()]
                self.kind = gr.Radio(kinds, value=kinds[0][1], label="Distortion")
                self.level = gr.Slider(0, LEVELS, 0, step=1, label="Level", elem_id="level")
                self.variants = gr.HTML()
        download.click(None, self.csv, None, js=_DOWNLOAD, api_visibility="private")
        for control in (self.kind, self.level):
            control.change(None, [self.kind, self.level], None, js=_SHOW, api_visibility="private")
        outputs = [self.dropped, self.said, self.results, self.table, self.csv, self.written]
        outputs += [self.details, self.distorted, self.kind, self.level, self.variants]
        for source in (self.dropped, folder):
            source.upload(
                self.answer,
                [source, names],
                outputs,
                js=_NAMES,
                show_progress_on=self.said,
                concurrency_limit=_AT_ONCE,
                concurrency_id="answers",
                api_visibility="private",
            )

    async def answer(self, _: object, sent: str) -> AsyncIterator[Update]:
        """Updates of the page: scores first, then distortions, then texts as they are written."""
        # A browser gives the files of a folder in any order.
        files = sorted((str(name), Path(path)) for name, path in json.loads(sent))
        try:
            async for update in self._answered(files):
                yield update
        except QueueFull:
            raise gr.Error("Too many pictures wait: try again in a second.") from None
        except TimeoutError:
            raise gr.Error(f"No answer within {self.service.limits.seconds} s.") from None
        finally:
            self.uploads.forget([path for _, path in files])

    async def _answered(self, files: Sequence[tuple[str, Path]]) -> AsyncIterator[Update]:
        most = self.service.limits.pictures
        if len(files) > most:
            raise gr.Error(f"{len(files)} pictures are more than the {most} of a request.")
        pictures = [self.uploads.picture(*file, _NEAREST, thumbnail=True) for file in files]
        answers = [sheet.Answer(picture.name) for picture in pictures]
        if self.service.scoring is not None:
            async with asyncio.timeout(self.service.limits.seconds):
                scored = await self.service.score(pictures)
            answers = [sheet.Answer(one.name, one) for one in scored]
        yield self._shown(answers) | {
            self.dropped: None,
            self.written: "",
            self.distorted: gr.Column(visible=False),
        }
        one = answers[0].scored if len(answers) == 1 else None
        if one is not None and one.status == "ok":
            yield await self._distorted(pictures[0])
        if self.service.writing is not None:
            async for update in self._written(pictures, answers):
                yield update

    def _shown(self, answers: Sequence[sheet.Answer]) -> Update:
        scored = [answer.scored for answer in answers if answer.scored is not None]
        return {
            self.said: sheet.summary(answers),
            self.results: gr.Column(visible=True),
            self.table: sheet.table_rows(answers, *self.kinds),
            self.csv: sheet.csv_of(answers, *self.kinds),
            self.details: sheet.picture_blocks(scored),
        }

    async def _distorted(self, picture: Picture) -> Update:
        """The picture at all levels of all distortions, scored together."""
        most = self.service.limits.picture_pixels
        copies = await anyio.to_thread.run_sync(_copies, picture, most, limiter=self._openers)
        async with asyncio.timeout(self.service.limits.seconds):
            scored = await self.service.score([Picture("", image) for image, _ in copies])
        told = [(one.score, url) for one, (_, url) in zip(scored, copies, strict=True)]
        variants = {
            kind: [told[0], *told[1 + place * LEVELS :][:LEVELS]]
            for place, kind in enumerate(KINDS)
        }
        return {
            self.variants: sheet.distorted_block(variants),
            self.distorted: gr.Column(visible=True),
            self.kind: next(iter(KINDS)),
            self.level: 0,
        }

    async def _written(
        self, pictures: Sequence[Picture], answers: Sequence[sheet.Answer]
    ) -> AsyncIterator[Update]:
        """Texts about one picture after another."""
        answers, blocks = list(answers), [""] * len(pictures)
        for place, picture in enumerate(pictures):
            async for item in self.service.write(picture):
                if isinstance(item, Case):
                    answers[place] = replace(answers[place], case=item)
                    blocks[place] = sheet.written_block(picture.name, [], item)
                else:
                    blocks[place] = sheet.written_block(picture.name, item)
                yield {self.written: "".join(blocks)}
            yield self._shown(answers)


def _copies(picture: Picture, max_pixels: int) -> list[tuple[Image.Image, str]]:
    """The picture at a smaller size, then under each distortion, each with a data URL."""
    small = scaled(open_picture(picture, max_pixels))
    images = [small, *(image for kind in KINDS for image in levels_of(small, kind))]
    return [(image, webp_url(image, quality=90)) for image in images]


def theme() -> gr.themes.Base:
    """Theme with the fonts of the system: none is loaded."""
    return gr.themes.Default(
        font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
    )
