"""Digests written down, since a result that was stored is found again by the digest of its inputs.

Whoever changes one of these makes every stored result whose inputs hold such a value unknown to its owner, who then waits for it again.
That takes a reason, and a line in `changelog.d/` that says so.
"""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
import pytest
from pydantic import BaseModel

from prefect_core.encoding import digest
from tests.unit.encoding.plain import VALUES


class Model(BaseModel):
    a: int
    b: object = None


@attrs.define
class Pair:
    a: object
    b: object = None


LIBRARIES: dict[str, Any] = {
    "pydantic": Model(a=1),
    "attrs": Pair(1),
    "numpy array": np.arange(6).reshape(2, 3).astype("i8"),
    "numpy array with NaN": np.array([0.5, np.nan]),
    "numpy array of text": np.array(["a", "bc"]),
    "numpy array of time": np.array(["2020-01-01", "NaT"], "M8[ns]"),
    "numpy array of objects": np.array([[1, "a"]], object),
    "numpy records": np.array([(1, 2.5)], [("i", "i1"), ("f", "f8")]),
    "numpy masked array": np.ma.array([1, 2], mask=[True, False]),
    "numpy scalar": np.float64(0.5),
    "numpy dtype": np.dtype("i4"),
    "numpy function": np.sin,
}

PINNED: dict[str, str] = {
    "None": "8ce86a6ae65d3692e7305e2c58ac62eebd97d3d943e093f577da25c36988246b",
    "True": "e632b7095b0bf32c260fa4c539e9fd7b852d0de454e9be26f24d0d6f91d069d3",
    "False": "f67ab10ad4e4c53121b6a5fe4da9c10ddee905b978d3788d2723d7bfacbe28a9",
    "int": "3022f629e73f63cd22fbfc4eb35d74a3722aff16e0c58adeaed881237ba6584b",
    "int, negative": "872399a99f6eea43d118a7af450e6e5f50366054d833471a6f440dce882cc63f",
    "int, long": "09c1ac98d3749e5b78cc114291bc0bb136a8467f26cce7a549c13112252f0f66",
    "float": "586bae06ef42a1345d4cbfed655a2cf83fe61b70679d89235f309b4134ed4d16",
    "float, negative zero": "cc456bd05fe76b51e4fdefc2d6abd88943c4a5fab066b754967abe30b5fd753c",
    "float, not a number": "db71ad533db972bb63d0922d0c07867c4952e7c185dc1765598f8f5eda47e1a4",
    "complex": "8e32fae8a546620fec35952d4badecc1188d6400e6f43ae884ab3b5c5f78cbbe",
    "str": "d20a62286b771f3a6f1ab991c08a56e291cc43e8c4ebc4017854a039d6f1a482",
    "str, surrogate": "75f4b3f3263edcde18cfac65b9cf23c466e668f10d753a5fa7b7d11137e044de",
    "str, long": "9cee5a1d5a1b9134d3137181e2e9f648b0d9383ff7cd9c460a01189c16ccc669",
    "bytes": "cbe3671462166d5cfa6cc0831c8e06ed0e37d21330cbddf923862044c9a6a147",
    "bytes, long": "57b918c016017a73e890793c0ea59a43df0bbfc9991174dd247d50f29da713b5",
    "bytearray": "7ce8a6dab39bc6681397000a309e4daa95bd583e37fc592a7b0bb2dcb69231cb",
    "memoryview": "3d2ff2aa6d9b873a0a0c829d1c0b900852142b79d7e4410cfe043807fe6374b5",
    "Ellipsis": "cdb4ee2aea69cc6a83331bbe96dc2caa9a299d21329efb0336fc02a82e1839a8",
    "NotImplemented": "bb7208bc9b5d7c04f1236a82a0093a5e33f40423d5ba8d4266f7092c3ba43b62",
    "list": "cffbe55a0dd88d6123bd5f7c7a47d29f0fe6bc08bd4754a2ad75f792fa81cb3f",
    "list of many ints": "1ce0b1036b5f53d157182034fce69841bb56b3931311f885b3877a6f27694607",
    "list of many long ints": "a19b79a9de3af0990f6df2781a05e68e264bffed8d6446a3794f9c119544e013",
    "list of many floats": "0b167ef57ab89b77da431901475a23f29f845dac48fc93180f4184b0076138c0",
    "list of many strings": "bc87c19c1dd0caa0082f303dc4708faecd5b089e1f0c2d3f2251eea96eba614f",
    "list of many things": "cff079c9a1282959f116cf1d8acdd4489b8eed47a440b403775db08c6f084c46",
    "tuple": "f8af3cbdd7006ffbc3161a8f6a4138ebfbfd339aec3c9524c1c188f865b631dc",
    "namedtuple": "6bdae7bff5c240abc1e034102845f18c8ca18673a254543cbfa54812ddc505e3",
    "set": "5c935e4d82012980867d58da13cb55f3944c8540a38af2d9eef40d7f0c1cae14",
    "frozenset": "dcf8e8be281c93a5edbc9ea59409b29367827a507ced2776bcf75c2fc9791bc2",
    "dict": "7a8c6ff4c3607e13ca12fb12448c0c0486a3ed5c13b4015dc8705b0724871355",
    "OrderedDict": "45829c24e1d9a684894609f239ef9e958f37c54153e9ef0abdeed8737c12889e",
    "defaultdict": "573934e5906a335349df7a2e80fd392a5f1416a059988f76e7dc5eb778105f43",
    "Counter": "41940743f280187e8a17290c70cf9c5f9c3afa35b7c211afcf4be0771a4df685",
    "deque": "3e0ce453a654ccc3b5ffad4d92cbd6208ed6d151036381f62511191311d68d9c",
    "SimpleNamespace": "d13db8818458f17ffe053eee924eb3553a512a8f4ed1e572ebef4ed61dabe676",
    "range": "764d53e4c38921e1ee587a86b7d238046936185e5db2af21520285774ffbc007",
    "slice": "273def49382f023046c6828edab5d53b487fd927fe9df1ff1bb35f41000fe532",
    "Enum": "1a871a3c05f57e46c5ba6b21da71c3d95672dd90f029241570c7a9037f2f9d18",
    "Flag": "455750601d466be9d19e86016c59576b6d07c76677876dfa0fa77a99d0ed0447",
    "datetime": "7930046c0ab13bab57b9f5e521cebdbc2d713e3fc8c9d33fe20812158fe3a7d0",
    "datetime, aware": "78d379cd959ba63f537a5413053dd0239d52d0a5e342029b1e035d2516566a1f",
    "datetime in a zone": "31dce534c76e11ba6d216f1ef52207706c6687c5777c99863c60dc1939664f04",
    "date": "8fba6d7436cab5b31264ad3b3585a309d8e77454824c163d479240097dc47977",
    "time": "51d2988971f443e34f43c7d6850a0c4e070b6833865c1dc6b7d786f5f5f03546",
    "timedelta": "a7578efb0143ed4d107f69bd8dcbd4674dcfd97b53b57e48e7c3c61b15d0d0ef",
    "timezone": "6aabb10f95fb1b9029e579e62edcbb81f7d8de89d633633b0ef3dfac9e9bf0ba",
    "Decimal": "fac54b7b19306f8c76056c70904326bf63881984a236d3cae8286cdebb52960b",
    "Fraction": "a57158d2a551e2d70ec4d8c682a8f11a6b572a9e3d389de4542777dc806edcdc",
    "UUID": "4ad2157ecb43cc2184ec2640d84c83b1532d4fbc9b5eedd7736603d05dd0e73b",
    "PurePosixPath": "02899dff0f0c046b8faf4dec66dbec170f0f6bc6d7deb49a2ce0cdbee3c51d3e",
    "PureWindowsPath": "ecc08baeb53c80d463f80f13b1fb2faea29db3b3756cfae636a1ce282daff62d",
    "Path": "579555071caeb674a6eead7c70fc830864bf7b81bc7f178d331ae390b20a9e85",
    "Pattern": "d0b5d69f222e53aeb7b370a7e533d9974304e0a56adcafce727c63fd1e6d16be",
    "class": "4dd7b47e552bb1d1ed4301389c36211d1eac2803ed1434929bcfd59eeb6db1e9",
    "built-in class": "a57600dcae1cb1e32fa3d298fa76f7e6b8f34258ea89b9ff2d7b69301de357e7",
    "function": "603eef95bcba69e3e1b80d6b49a3662386dab5e92526d56f10e062089f8f4f86",
    "built-in function": "adbeff28d7b61487b0855d29ec2b54a387d6f17f923d807593cda816e95cf177",
    "method of a class": "ccc5c3ced290598b8e5e7017dc936d228251b8bff1f10a48cf9edda2a670d9b5",
    "method": "15dbc43ab198710236605182ce3a718d3a03514e81b0e2b5f94d92461ea40391",
    "class method": "9e0c02d00d75f4c350e1c78c70e4056a9767b8c4009caa0d503dde3d959a6078",
    "method of a built-in class": "8de8843afc415a9ef24812e984194fb1a90c7d104d4d93d83efadbd204847b50",
    "cached function": "4e50c5df0a0623297eaa57333a984282058e385e31c58abf2b231eee51dba712",
    "partial": "08b9026bda24eba1444c7ca38d2937a7f6002cde1721674cff2923b0ac26f331",
    "dataclass": "c2c6a9d9e8e08b6c58aa4e168769e15f58f8d3ef2dfed4226ef8f88175876efc",
    "dataclass with slots": "944a7d28782038f53e3dd06a7daf2caf6f284d8eacc8c7afef0cd35f28257d22",
    "pydantic": "5c68adbc2645a8511379bf8c01ee5bcf84d76422e57d69193c7a8d535a08f7a0",
    "attrs": "f75b5987a222c6ac549dc962a519961f78f98005d837a4f85c22a7cb14d6853f",
    "numpy array": "e82fb52a007b92b2059e6cdf88da4b4397d7fe42f4de9a1b5a6398fe0b138ff8",
    "numpy array with NaN": "c446481b936874bdc2e955220ff746d44aadb2a4eae9ed6bf1813ec5a28a9ce4",
    "numpy array of text": "93815b2f8c4a62028a9412a21800eaa47c41b8f1382fc8e682bd9d0bc1eede3f",
    "numpy array of time": "bee03d2781fc1297e9d98f68b02c1d2ccb377127debc2fa8389669f6c3db502e",
    "numpy array of objects": "4ff9e750d13a17a256c3ed97a667d20117ecea49dcf518ab7d9cc062f054b72e",
    "numpy records": "a2042ed1f6c55e5e4972f30532bdccab95ae1f12f21230a286ca0737cba55ed9",
    "numpy masked array": "4eccfccc937342651cb452bb1e1396dd619f7fe53113892b873402d123a78ca6",
    "numpy scalar": "20a14fb2210c7d82a71514ad547da2a2134abb99a972e004ab63d3822d5e1ae1",
    "numpy dtype": "34eb5e0bbdc7148b9c967bce9f09287b689eb9d3f4ad22a8f49dad3e888662be",
    "numpy function": "e8205f5ea8f8f672fc868c704037781d0763fc7401658fcd1bb077a1981f774e",
}


@pytest.mark.parametrize(("name", "value"), (VALUES | LIBRARIES).items(), ids=VALUES | LIBRARIES)
def test_the_digest_is_what_it_always_was_of(name: str, value: object) -> None:
    assert digest(value).hex() == PINNED[name]


def test_no_pinned_digest_is_left_over() -> None:
    assert PINNED.keys() == VALUES.keys() | LIBRARIES.keys()
    assert len(set(PINNED.values())) == len(PINNED)
