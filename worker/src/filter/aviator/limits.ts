/**
 * Named limits of one AviatorScript and one evaluation of it (I7). All of them end in a plain
 * error.
 */

/** Characters of a script. */
export const MAX_SCRIPT_CHARS = 65_536;
/**
 * Height of the syntax tree: evaluation recurses that deep, so deeper scripts are refused at load.
 */
export const MAX_TREE_HEIGHT = 160;
/** Lambdas running inside lambdas; together with the height it bounds the JavaScript stack. */
export const MAX_CALL_DEPTH = 16;
/** Characters of any string a script makes. */
export const MAX_STRING_CHARS = 1_048_576;
/** Elements of any collection a script makes. */
export const MAX_COLLECTION_SIZE = 65_536;
/** Characters of a regular expression; re2js compiles to a program of about that size. */
export const MAX_PATTERN_CHARS = 1_000;
/** Instructions of a compiled pattern: `a{1000}` is short as text and long as a program. */
export const MAX_PATTERN_INSTRUCTIONS = 2_000;
/** Compiled regular expressions a filter keeps for patterns that arrive as strings. */
export const MAX_CACHED_PATTERNS = 64;
/** Work on text is charged one step per this many characters. */
export const CHARS_PER_STEP = 64;
/** What an evaluation says that took more steps than its budget. */
export const STEPS_EXCEEDED = 'step budget exceeded';
