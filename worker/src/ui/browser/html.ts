/** Views as tagged templates; htm reads them in the browser, so nothing has to be built. */
import htm from 'htm';
import { type ComponentChildren, h, type VNode } from 'preact';

export type View = ComponentChildren;
type Template = (strings: TemplateStringsArray, ...values: unknown[]) => VNode;

export const html = (htm as unknown as { bind(create: typeof h): Template }).bind(h);
