# libGL of a graphics driver is the system's to exchange. libGL of libglvnd looks for the driver itself, and is bound as any library.
{
  library,
  program,
  expect,
}:
let
  driverOf =
    more:
    library {
      name = "GL";
      attributes.source = "int answer_of_GL(void) { return 1${more}; }";
    };
  driver = driverOf "";
  ofTheSystem = driverOf " + 1";
  # the entry into libGLdispatch
  dispatcher = library {
    name = "GL";
    attributes.source = "int __glDispatchInit(void) { return 5; } int answer_of_GL(void) { return __glDispatchInit(); }";
  };
  app =
    libGL:
    program {
      name = "app";
      needs = [ libGL ];
      hardened = true;
    };
in
{
  the-driver-is-exchanged = expect "driver" ''
    [[ $(tag NEEDED ${app driver}/bin/app | head -1) == libGL.so.1 ]] || fail "it is bound"
    prints 1 ${app driver}/bin/app
    LD_LIBRARY_PATH=${ofTheSystem}/lib prints 2 ${app driver}/bin/app
  '';
  the-dispatcher-is-bound = expect "dispatcher" ''
    [[ $(tag NEEDED ${app dispatcher}/bin/app | head -1) == ${dispatcher}/lib/libGL.so.1 ]] || fail "it is not bound"
    searches 0 ${app dispatcher}/bin/app
    LD_LIBRARY_PATH=${ofTheSystem}/lib prints 5 ${app dispatcher}/bin/app
  '';
}
