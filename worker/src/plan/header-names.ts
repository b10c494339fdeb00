/** Request headers of the webhook: what a name may be, and which a user may not set. */

/** A token of HTTP. */
export const HEADER_NAME = "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$";

/**
 * In lower case. Written by the action itself or by HTTP; a second value would break the receiver's
 * check.
 */
export const OWN_HEADERS =
  '^(host|connection|content-length|content-type|transfer-encoding|(ce|webhook)-.*)$';
