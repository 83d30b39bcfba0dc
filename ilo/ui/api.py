"""The functions that programs call: `tasks`, `models`, `solve` and `morph`, over HTTP or as MCP tools.

Their runs wait in the same queue as those of the page and have the same limits. Gradio makes the schema from the type
hints, which must not be strings (so no `from __future__ import annotations` here), and the descriptions from the
docstrings of `Api.public`, one line for each argument.
"""

import base64
import binascii
import json
import logging
import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ilo.classifiers.classifier import Classifier
from ilo.guidance import Guidance
from ilo.methods import METHODS, MORPH_METHODS, MORPH_PRESETS, PRESETS, morph_preset, preset
from ilo.operators import OPERATORS, find
from ilo.operators.setting import REQUIRED, Setting
from ilo.photos import portraits
from ilo.photos.detection import detect
from ilo.photos.masks import PRESET_MASKS, preset_mask
from ilo.photos.pictures import SMALLEST_SIDE, Crop, read_mask, read_picture, to_tensor
from ilo.photos.tasks import build_problem
from ilo.priors.load import Model
from ilo.records.saving import result_png
from ilo.records.scores import scores
from ilo.settings import SettingsError, check_choice, check_whole
from ilo.text.words import shown
from ilo.ui import text
from ilo.ui.bench import sentence
from ilo.ui.examples import Example
from ilo.ui.parts import tasks as page_tasks
from ilo.ui.runs.line import Runs
from ilo.ui.runs.order import Order, Run
from ilo.ui.visitors import temporary
from ilo.ui.visitors.visitors import Visitors

log = logging.getLogger(__name__)
