/** Server-sent events, from pieces of text as they come. Pure. */

export interface StreamEvent {
  event: string;
  data: string;
}

/** A record is at most an event's size; a server that sends no line end is not listened to. */
const MAX_PENDING_CHARACTERS = 4 * 1024 * 1024;

export class EventStreamParser {
  #pending = '';
  #event = '';
  #data: string[] = [];

  /** Throws when a line does not end within the limit. */
  push(text: string): StreamEvent[] {
    const lines = (this.#pending + text).split(/\r\n|\n|\r(?!$)/);
    this.#pending = lines.pop() ?? '';
    if (this.#pending.length > MAX_PENDING_CHARACTERS) throw new Error('a line without an end');
    return lines.flatMap((line) => this.#line(line));
  }

  #line(line: string): StreamEvent[] {
    if (line === '') {
      const { length } = this.#data;
      const told = { event: this.#event || 'message', data: this.#data.join('\n') };
      this.#event = '';
      this.#data = [];
      return length === 0 ? [] : [told];
    }
    const colon = line.indexOf(':');
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
    if (field === 'event') this.#event = value;
    if (field === 'data') this.#data.push(value);
    return [];
  }
}
