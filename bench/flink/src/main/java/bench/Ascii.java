package bench;

import java.util.Arrays;

/** A growing buffer of ASCII text: JSON is put together in bytes, never in Strings. */
final class Ascii {
  private byte[] bytes;
  private int length;

  Ascii(int capacity) {
    bytes = new byte[capacity];
  }

  int length() {
    return length;
  }

  Ascii clear() {
    length = 0;
    return this;
  }

  byte[] copy() {
    return Arrays.copyOf(bytes, length);
  }

  Ascii text(String text) {
    int count = text.length();
    reserve(count);
    for (int i = 0; i < count; i++) {
      bytes[length + i] = (byte) text.charAt(i);
    }
    length += count;
    return this;
  }

  Ascii raw(byte[] more) {
    reserve(more.length);
    System.arraycopy(more, 0, bytes, length, more.length);
    length += more.length;
    return this;
  }

  Ascii hex8(int value) {
    reserve(8);
    for (int shift = 28; shift >= 0; shift -= 4) {
      bytes[length++] = (byte) Character.forDigit((value >>> shift) & 15, 16);
    }
    return this;
  }

  Ascii number(long value) {
    if (value < 0) {
      text("-");
      return number(-value);
    }
    int digits = 1;
    for (long rest = value; rest >= 10; rest /= 10) {
      digits++;
    }
    return padded(value, digits);
  }

  /** With leading zeros. */
  Ascii padded(long value, int digits) {
    reserve(digits);
    long rest = value;
    for (int i = length + digits - 1; i >= length; i--) {
      bytes[i] = (byte) ('0' + rest % 10);
      rest /= 10;
    }
    length += digits;
    return this;
  }

  Ascii fill(char character, int count) {
    reserve(count);
    Arrays.fill(bytes, length, length + count, (byte) character);
    length += count;
    return this;
  }

  private void reserve(int count) {
    if (length + count > bytes.length) {
      bytes = Arrays.copyOf(bytes, Math.max(bytes.length * 2, length + count));
    }
  }
}
