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
