"""The package's metadata is written once, in settings.ini; this file hands it to setuptools."""
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).resolve().parent
ini = ConfigParser(delimiters=["="], interpolation=None)
ini.read(here / "settings.ini", encoding="utf-8")
cfg = ini["DEFAULT"]


def lines(key): return [line.strip() for line in cfg[key].splitlines() if line.strip()]


extras = {key.removesuffix("_requirements"): lines(key) for key in cfg if key.endswith("_requirements")}

setup(
    name=cfg["lib_name"],
    version=cfg["version"],
    description=cfg["description"],
    long_description=(here / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author=cfg["author"],
    license_expression=cfg["license"],
    keywords=[word.strip() for word in cfg["keywords"].split(",")],
    classifiers=lines("classifiers"),
    python_requires=f">={cfg['min_python']}",
    install_requires=lines("requirements"),
    extras_require=extras,
    packages=find_packages(include=["trustlab", "trustlab.*"]),
    package_data={"trustlab": ["py.typed", "_data/**/*"]},
    entry_points={"console_scripts": lines("console_scripts")},
    zip_safe=False,
)
