"""Libraries that rules know by name, as patterns of fnmatch(3)."""

# musl's C library is its loader; both names are reserved, and never searched for.
MUSL = ("ld-musl-*.so.*", "libc.musl-*.so.*", "libc.so")
LOADERS = ("ld-linux*.so.*", "ld64.so.*", "ld.so.*", *MUSL)
LIBC = (
    "libc.so libc.so.* libpthread.so.* libm.so.* libdl.so.* librt.so.* libutil.so.* libresolv.so.* libanl.so.* libmvec.so.* "
    "libc_malloc_debug.so.* libthread_db.so.* libnss_*.so.* libnsl.so.1 libBrokenLocale.so.* libmemusage.so libpcprofile.so"
).split()
RUNTIMES = tuple(
    f"{name}.so*"
    for name in (
        "libgcc_s libstdc++ libgomp libatomic libquadmath libgfortran libitm libssp "
        "libasan libubsan libtsan liblsan libhwasan libc++ libc++abi libomp"
    ).split()
)
ALLOCATORS = ("libtcmalloc*.so.*", "libjemalloc*.so.*", "libmimalloc*.so.*")
DRIVERS = (
    "libcuda.so* libcudadebugger.so* libnvidia-*.so* libnvcuvid.so* libnvoptix.so* libOpenCL.so* "
    "libGL.so* libGLX.so* libGLX_*.so* libEGL.so* libEGL_*.so* libGLESv*.so* libGLdispatch.so* libOpenGL.so* "
    "libvulkan_*.so* libVkLayer*.so* libvdpau_*.so* *_dri.so *_drv_video.so"
).split()
# What nixpkgs has other implementations take the place of through LD_LIBRARY_PATH (its manual, "BLAS/LAPACK"); Debian's
# have the names of the 64-bit interface.
BLAS = "libblas.so.3 libcblas.so.3 liblapack.so.3 liblapacke.so.3 libblas64.so.3 libcblas64.so.3 liblapack64.so.3 liblapacke64.so.3".split()
# Of the drivers, what libglvnd and the loaders of OpenCL have as well, which look for the drivers themselves, and a string that theirs
# holds and a driver's does not: the entry to libGLdispatch, and the end of the directory where drivers of OpenCL are listed.
DISPATCHERS = {
    "libGL.so.1": b"__glDispatchInit",
    "libGLX.so.0": b"__glDispatchInit",
    "libEGL.so.1": b"__glDispatchInit",
    "libOpenGL.so.0": b"__glDispatchInit",
    "libGLESv1_CM.so.1": b"__glDispatchInit",
    "libGLESv2.so.2": b"__glDispatchInit",
    "libGLdispatch.so.0": b"__glDispatchInit",
    "libOpenCL.so.1": b"/OpenCL/vendors",
}
