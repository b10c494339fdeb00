/** What the test of argocd/health.lua uses of the Lua interpreter. */
declare module 'fengari' {
  interface LuaState {
    readonly lua: unique symbol;
  }
  type LuaString = Uint8Array;
  export function to_luastring(text: string): LuaString;
  export const lauxlib: {
    luaL_newstate(): LuaState;
    /** 0: it ran; else the message is on top of the stack. */
    luaL_dostring(state: LuaState, code: LuaString): number;
  };
  export const lualib: { luaL_openlibs(state: LuaState): void };
  export const lua: { lua_tojsstring(state: LuaState, index: number): string };
}
