// The WebGL2 renderer: one instance per visible face, one draw call per direction; points, lines and the car beside it.

const FACE_VERTEX = `#version 300 es
precision highp float; precision highp int;
layout(location=0) in uvec4 a_cell;
layout(location=1) in uint a_value;
uniform mat4 u_clip; uniform vec3 u_lower, u_size, u_o, u_u, u_v, u_eye; uniform float u_shade;
uniform vec3 u_hover, u_chosen; uniform sampler2D u_palette;
flat out vec3 v_rgb; flat out vec4 v_open; out vec2 v_uv; out float v_range;
void main() {
  vec2 k = vec2(gl_VertexID & 1, gl_VertexID >> 1);
  vec3 cell = vec3(a_cell.xyz), p = u_lower + u_size * (cell + u_o + u_u * k.x + u_v * k.y);
  vec3 rgb = texelFetch(u_palette, ivec2(int(a_value), 0), 0).rgb * u_shade;
  if (distance(cell, u_chosen) < .5) rgb = mix(rgb, vec3(1., .95, .3), .65);
  if (distance(cell, u_hover) < .5) rgb = mix(rgb, vec3(1.), .45);
  uint ao = a_cell.w;
  v_open = 1. - .17 * vec4(float(ao & 3u), float(ao >> 2 & 3u), float(ao >> 4 & 3u), float(ao >> 6 & 3u));
  v_rgb = rgb; v_uv = k; v_range = distance(p, u_eye);
  gl_Position = u_clip * vec4(p, 1.);
}`;
const FACE_FRAGMENT = `#version 300 es
precision highp float;
flat in vec3 v_rgb; flat in vec4 v_open; in vec2 v_uv; in float v_range;
uniform vec3 u_fog; uniform vec2 u_fade; out vec4 rgba;
void main() {
  float open = mix(mix(v_open.x, v_open.y, v_uv.x), mix(v_open.z, v_open.w, v_uv.x), v_uv.y);
  vec2 w = max(fwidth(v_uv), 1e-5), e = min(v_uv, 1. - v_uv) / w;
  float line = (1. - smoothstep(.3, 1.3, min(e.x, e.y))) * smoothstep(6., 22., 1. / max(w.x, w.y));
  vec3 rgb = v_rgb * open * (1. - .2 * line);
  rgba = vec4(mix(rgb, u_fog, .45 * smoothstep(u_fade.x, u_fade.y, v_range)), 1.);
}`;
const PLAIN_VERTEX = `#version 300 es
precision highp float;
layout(location=0) in vec3 a_xyz;
layout(location=1) in vec4 a_rgba;
uniform mat4 u_clip; uniform float u_point; out vec4 v_rgba;
void main() { gl_Position = u_clip * vec4(a_xyz, 1.); gl_PointSize = max(1.5, u_point / gl_Position.w); v_rgba = a_rgba; }`;
const PLAIN_FRAGMENT = `#version 300 es
precision highp float; in vec4 v_rgba; out vec4 rgba; void main() { rgba = v_rgba; }`;

class GlRenderer {
  constructor(canvas) {
    const gl = canvas.getContext("webgl2", { antialias: true, alpha: false, powerPreference: "high-performance", preserveDrawingBuffer: false });
    if (!gl) throw new Error("no WebGL2");
    this.gl = gl;
    this.faces = this.program(FACE_VERTEX, FACE_FRAGMENT);
    this.plain = this.program(PLAIN_VERTEX, PLAIN_FRAGMENT);
    this.buffers = { cell: gl.createBuffer(), value: gl.createBuffer() };
    this.parts = {};
    this.palette = gl.createTexture();
    gl.bindTexture(gl.TEXTURE_2D, this.palette);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.NEAREST);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, gl.NEAREST);
    this.name = "WebGL2";
  }

  program(vertex, fragment) {
    const { gl } = this, program = gl.createProgram();
    for (const [type, text] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]]) {
      const shader = gl.createShader(type);
      gl.shaderSource(shader, text);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS) && !gl.isContextLost()) throw new Error(gl.getProgramInfoLog(program));
    const at = {};
    for (let i = 0; i < gl.getProgramParameter(program, gl.ACTIVE_UNIFORMS); i++) {
      const { name } = gl.getActiveUniform(program, i);
      at[name] = gl.getUniformLocation(program, name);
    }
    return { program, at };
  }

  setMesh(mesh, grid) {
    const { gl } = this;
    Object.assign(this, { mesh, grid });
    gl.bindBuffer(gl.ARRAY_BUFFER, this.buffers.cell);
    gl.bufferData(gl.ARRAY_BUFFER, mesh.cells, gl.DYNAMIC_DRAW);
  }

  setValues(values) {
    const { gl, mesh } = this, face = new Uint8Array(mesh.owner.length);
    for (let i = 0; i < face.length; i++) face[i] = values[mesh.owner[i]];
    gl.bindBuffer(gl.ARRAY_BUFFER, this.buffers.value);
    gl.bufferData(gl.ARRAY_BUFFER, face, gl.DYNAMIC_DRAW);
  }

  setPalette(rgba) {
    const { gl } = this;
    gl.bindTexture(gl.TEXTURE_2D, this.palette);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, 256, 1, 0, gl.RGBA, gl.UNSIGNED_BYTE, rgba);
  }

  // Lines, triangles and points: seven floats a vertex (x, y, z, r, g, b, a); null removes the part.
  setPart(name, kind, data) {
    const { gl } = this;
    if (this.parts[name]) gl.deleteBuffer(this.parts[name].buffer);
    delete this.parts[name];
    if (!data) return;
    const buffer = gl.createBuffer();
    gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
    gl.bufferData(gl.ARRAY_BUFFER, data, gl.STATIC_DRAW);
    this.parts[name] = { buffer, kind, count: data.length / 7 };
  }

  draw(camera, { background, hover, chosen }) {
    const { gl } = this, canvas = gl.canvas;
    gl.viewport(0, 0, canvas.width, canvas.height);
    gl.clearColor(...background.map((v) => v / 255), 1);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    gl.enable(gl.DEPTH_TEST);
    gl.disable(gl.BLEND);
    gl.enable(gl.CULL_FACE);
    if (this.mesh && this.mesh.owner.length) this.drawFaces(camera, background, hover, chosen);
    gl.disable(gl.CULL_FACE);
    gl.enable(gl.BLEND);
    gl.blendFuncSeparate(gl.SRC_ALPHA, gl.ONE_MINUS_SRC_ALPHA, gl.ONE, gl.ONE);
    gl.useProgram(this.plain.program);
    gl.uniformMatrix4fv(this.plain.at.u_clip, false, camera.matrix);
    gl.uniform1f(this.plain.at.u_point, canvas.height * 0.12);
    for (const part of Object.values(this.parts)) this.drawPart(part);
  }

  drawPart({ buffer, kind, count }) {
    const { gl } = this;
    gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
    for (const [at, size, offset] of [[0, 3, 0], [1, 4, 12]]) {
      gl.enableVertexAttribArray(at);
      gl.vertexAttribDivisor(at, 0);
      gl.vertexAttribPointer(at, size, gl.FLOAT, false, 28, offset);
    }
    gl.drawArrays({ lines: gl.LINES, triangles: gl.TRIANGLES, points: gl.POINTS }[kind], 0, count);
  }

  drawFaces(camera, background, hover, chosen) {
    const { gl, grid, mesh } = this, { program, at } = this.faces, eye = camera.eye;
    const cell = (i) => (i < 0 ? [-9, -9, -9] : mesh.voxel(i));
    gl.useProgram(program);
    gl.uniformMatrix4fv(at.u_clip, false, camera.matrix);
    gl.uniform3fv(at.u_lower, grid.lower);
    gl.uniform3fv(at.u_size, grid.size);
    gl.uniform3fv(at.u_eye, eye);
    gl.uniform3fv(at.u_hover, cell(hover));
    gl.uniform3fv(at.u_chosen, cell(chosen));
    gl.uniform3fv(at.u_fog, background.map((v) => v / 255));
    gl.uniform2f(at.u_fade, camera.distance * 0.9, camera.distance * 2.6 + 20);
    gl.bindTexture(gl.TEXTURE_2D, this.palette);
    FACES.forEach((face, f) => {
      const first = mesh.start[f], count = mesh.start[f + 1] - first, a = f >> 1;
      const border = f % 2 ? grid.lower[a] + grid.size[a] * grid.shape[a] : grid.lower[a];
      if (!count || (f % 2 ? eye[a] >= border : eye[a] <= border)) return;  // no face of this direction looks at the eye
      gl.uniform3fv(at.u_o, face.o);
      gl.uniform3fv(at.u_u, face.u);
      gl.uniform3fv(at.u_v, face.v);
      gl.uniform1f(at.u_shade, face.shade);
      for (const [slot, buffer, size, type, bytes] of [[0, this.buffers.cell, 4, gl.UNSIGNED_SHORT, 8], [1, this.buffers.value, 1, gl.UNSIGNED_BYTE, 1]]) {
        gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
        gl.enableVertexAttribArray(slot);
        gl.vertexAttribIPointer(slot, size, type, bytes, first * bytes);
        gl.vertexAttribDivisor(slot, 1);
      }
      gl.drawArraysInstanced(gl.TRIANGLE_STRIP, 0, 4, count);
    });
  }
}
