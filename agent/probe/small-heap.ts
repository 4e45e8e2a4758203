/** V8 options of a child that lives for long or is one of many, and reads little: tens of MB instead of hundreds. */
export const SMALL_HEAP_ARGS: readonly string[] = ['--max-old-space-size=32', '--max-semi-space-size=1'];
