"""How the tables of ELF files are packed, by class and byte order (gABI; GNU symbol versioning)."""

import struct
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Layout:
    """How the tables of one class and byte order are packed (gABI, "ELF Header" and on; GNU symbol versioning)."""

    header: (
        struct.Struct
    )  # e_type, e_machine, e_phoff, e_shoff, e_ehsize, e_phentsize, e_phnum, e_shentsize, e_shnum, e_shstrndx
    segment: struct.Struct
    section: struct.Struct  # sh_name, sh_type, sh_flags, sh_addr, sh_offset, sh_size, sh_link
    tag: struct.Struct
    symbol: int  # bytes an entry; st_name is its first word
    need: struct.Struct  # vn_cnt, vn_file, vn_aux, vn_next
    need_version: struct.Struct  # vna_hash, vna_other, vna_name, vna_next
    definition: struct.Struct  # vd_flags, vd_ndx, vd_cnt, vd_hash, vd_aux, vd_next
    definition_name: struct.Struct  # vda_name, vda_next


def _layout(bits: int, order: str) -> Layout:
    wide = bits == 64
    return Layout(
        struct.Struct(order + ("HH12xQQ4xHHHHHH" if wide else "HH8xII4xHHHHHH")),
        struct.Struct(order + ("IIQQ8xQQQ" if wide else "III4xIIII")),
        struct.Struct(order + ("IIQQQQI20x" if wide else "IIIIIII12x")),
        struct.Struct(order + ("QQ" if wide else "II")),
        24 if wide else 16,
        struct.Struct(order + "2xHIII"),
        struct.Struct(order + "I2xHII"),
        struct.Struct(order + "2xHHHIII"),
        struct.Struct(order + "II"),
    )


LAYOUTS = {(bits, order): _layout(bits, order) for bits in (32, 64) for order in "<>"}
