"""DICOM films as grey values. pydicom is wanted only here: pip install 'isnetlib[dicom]'."""

import io

import numpy as np

from isnetlib.data.checks import Refused


def is_dicom(name: str, data: bytes) -> bool:
    """By the name's ending, or by the four letters that follow the 128 bytes of a DICOM file's preamble."""
    return name.lower().endswith((".dcm", ".dicom")) or data[128:132] == b"DICM"


def decode(data: bytes) -> np.ndarray:
    """float64 (H, W) of one film: rescaled (slope, intercept), cut to its first window if it has one, air dark.

    The modality and the window transform are those of DICOM PS3.3 C.11.1 and C.11.2; MONOCHROME1, in which the lowest
    value is white, is inverted.

    Raises
    ------
    ImportError : pydicom is not installed
    Refused : no DICOM file, no pixels, colour, several frames, or a compression that needs another package
    """
    try:
        import pydicom
        from pydicom.pixels import apply_modality_lut, apply_voi_lut
    except ImportError as error:
        raise ImportError("DICOM files need pydicom: pip install 'isnetlib[dicom]'") from error
    try:
        film = pydicom.dcmread(io.BytesIO(data), force=True)
        pixels, photometric = film.pixel_array, film.PhotometricInterpretation
        if pixels.ndim != 2 or not photometric.startswith("MONOCHROME"):
            raise Refused(
                f"is no single grey film ({photometric}, shape {pixels.shape})", "leave it out with --partial"
            )
        pixels = np.asarray(apply_voi_lut(apply_modality_lut(pixels, film), film), dtype=np.float64)
    except Refused:
        raise
    except Exception as error:  # on damaged bytes the reader raises almost anything
        remedy = "download it again; for compressed pixels also install pylibjpeg with its plugins"
        raise Refused(f"cannot be read as DICOM ({type(error).__name__}: {error})", remedy) from error
    return pixels.max() - pixels if photometric == "MONOCHROME1" else pixels
