"""The smallest C that shows something."""

from collections.abc import Sequence

# A program: a thread ends by pthread_exit(3) with what a() returns, which is printed.
PTHREAD_EXIT = """
    #include <pthread.h>
    #include <stdio.h>
    int a(void);
    static void *thread(void *x) { pthread_exit((void *)(long) a()); }
    int main(void) {
      pthread_t t; void *answer;
      pthread_create(&t, 0, thread, 0);
      pthread_join(t, &answer);
      printf("%ld\\n", (long) answer);
      return 0;
    }"""


def function(name: str, value: int, calls: Sequence[str] = ()) -> str:
    """A library's source: `name` returns `value` and what each of `calls` returns, added up."""
    declarations = "".join(f"int {other}(void);" for other in calls)
    return (
        f"{declarations} int {name}(void) {{ return {' + '.join([str(value), *(f'{other}()' for other in calls)])}; }}"
    )


def prints(*calls: str) -> str:
    """A program's source: it prints what each of `calls` returns, one a line."""
    declarations = "".join(f"int {name}(void);" for name in calls)
    body = "".join(f'printf("%d\\n", {name}());' for name in calls)
    return f"int printf(const char *, ...); {declarations} int main(void) {{ {body} return 0; }}"


def opens(name: str, symbol: str = "", flags: str = "RTLD_NOW", *, calls: Sequence[str] = ()) -> str:
    """A program's source: it calls `calls`, then opens `name` by dlopen and prints what `symbol` there returns.

    It prints why where it cannot be opened, and "opened" where there is no symbol to ask for.
    """
    declarations = "".join(f"int {other}(void);" for other in calls)
    used = "".join(f"{other}();" for other in calls)
    answer = f'printf("%d\\n", ((int (*)(void))dlsym(handle, "{symbol}"))());' if symbol else 'puts("opened");'
    return f"""
        #define _GNU_SOURCE
        #include <dlfcn.h>
        #include <stdio.h>
        {declarations}
        int main(void) {{
          {used}
          void *handle = dlopen("{name}", {flags});
          if (!handle) {{ printf("not opened: %s\\n", dlerror()); return 9; }}
          {answer}
          return 0;
        }}"""
