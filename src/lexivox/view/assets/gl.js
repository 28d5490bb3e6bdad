// The WebGL2 renderer: one draw call per direction of faces; points, lines and the car beside it. The vertex shader reads
// each face from a texture by its number: instances of four vertices would be slow, on software renderers a thousandfold.

const TEXTURE_WIDTH = 2048, FACES_AT_ONCE = 16384;  // as many as 16-bit indices can name

const FACE_VERTEX = `#version 300 es
precision highp float; precision highp int;
precision highp usampler2D;
uniform usampler2D u_cells, u_values; uniform int u_first;
uniform mat4 u_clip; uniform vec3 u_lower, u_size, u_o, u_u, u_v, u_eye; uniform float u_shade;
uniform vec3 u_hover, u_chosen; uniform sampler2D u_palette;
flat out vec3 v_rgb; flat out vec4 v_open; out vec2 v_uv; out float v_range;
void main() {
  int face = u_first + (gl_VertexID >> 2), corner = gl_VertexID & 3;
  ivec2 at = ivec2(face % ${TEXTURE_WIDTH}, face / ${TEXTURE_WIDTH});
  uvec4 data = texelFetch(u_cells, at, 0);
  vec2 k = vec2(corner & 1, corner >> 1);
  vec3 cell = vec3(data.xyz), p = u_lower + u_size * (cell + u_o + u_u * k.x + u_v * k.y);
  vec3 rgb = texelFetch(u_palette, ivec2(int(texelFetch(u_values, at, 0).r), 0), 0).rgb * u_shade;
  if (distance(cell, u_chosen) < .5) rgb = mix(rgb, vec3(1., .95, .3), .65);
  if (distance(cell, u_hover) < .5) rgb = mix(rgb, vec3(1.), .45);
  uint ao = data.w;
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
uniform mat4 u_clip; uniform float u_point, u_lift; uniform vec3 u_eye; out vec4 v_rgba;
void main() {
  vec4 near = u_clip * vec4(a_xyz + u_lift * normalize(u_eye - a_xyz), 1.);
  gl_Position = u_clip * vec4(a_xyz, 1.);
  gl_Position.z = near.z / near.w * gl_Position.w;
  gl_PointSize = max(1.5, u_point / gl_Position.w); v_rgba = a_rgba;
}`;
const PLAIN_FRAGMENT = `#version 300 es
precision highp float; in vec4 v_rgba; out vec4 rgba; void main() { rgba = v_rgba; }`;

// Is there no graphics card behind WebGL2 (a remote desktop, a virtual machine)? Then smooth edges cost too much.
function isSoftware() {
  const gl = document.createElement("canvas").getContext("webgl2"), info = gl?.getExtension("WEBGL_debug_renderer_info");
  const name = info ? gl.getParameter(info.UNMASKED_RENDERER_WEBGL) : "";
  gl?.getExtension("WEBGL_lose_context")?.loseContext();
  return /swiftshader|llvmpipe|software|basic render/i.test(name);
}

class GlRenderer {
  constructor(canvas) {
    const gl = canvas.getContext("webgl2", { antialias: !isSoftware(), alpha: false, powerPreference: "high-performance" });
    if (!gl) throw new Error("no WebGL2");
    this.gl = gl;
    this.faces = this.program(FACE_VERTEX, FACE_FRAGMENT);
    this.plain = this.program(PLAIN_VERTEX, PLAIN_FRAGMENT);
    this.parts = {};
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
    for (const unit of [0, 1, 2]) {  // palette, cells, values: each stays bound to a unit of its own
      gl.activeTexture(gl.TEXTURE0 + unit);
      gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
      gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.NEAREST);
      gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, gl.NEAREST);
    }
    gl.useProgram(this.faces.program);
    ["u_palette", "u_cells", "u_values"].forEach((name, unit) => gl.uniform1i(this.faces.at[name], unit));
    this.corners = gl.createBuffer();
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, this.corners);
    gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, Uint16Array.from({ length: 6 * FACES_AT_ONCE }, (_, i) => 4 * Math.floor(i / 6) + [0, 1, 2, 2, 1, 3][i % 6]), gl.STATIC_DRAW);
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

  fill(unit, inner, width, height, format, type, data) {
    const { gl } = this;
    gl.activeTexture(gl.TEXTURE0 + unit);
    gl.texImage2D(gl.TEXTURE_2D, 0, inner, width, height, 0, format, type, data);
  }

  setMesh(mesh, grid) {
    const { gl } = this, rows = Math.max(1, Math.ceil(mesh.owner.length / TEXTURE_WIDTH)), cells = new Uint16Array(4 * rows * TEXTURE_WIDTH);
    Object.assign(this, { mesh, grid, rows });
    cells.set(mesh.cells);
    this.fill(1, gl.RGBA16UI, TEXTURE_WIDTH, rows, gl.RGBA_INTEGER, gl.UNSIGNED_SHORT, cells);
  }

  setValues(values) {
    const { gl, mesh, rows } = this, face = new Uint8Array(rows * TEXTURE_WIDTH);
    for (let i = 0; i < mesh.owner.length; i++) face[i] = values[mesh.owner[i]];
    this.fill(2, gl.R8UI, TEXTURE_WIDTH, rows, gl.RED_INTEGER, gl.UNSIGNED_BYTE, face);
  }

  setPalette(rgba) { this.fill(0, this.gl.RGBA, 256, 1, this.gl.RGBA, this.gl.UNSIGNED_BYTE, rgba); }

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
    gl.uniform3fv(this.plain.at.u_eye, camera.eye);
    for (const part of Object.values(this.parts)) this.drawPart(part);
  }

  drawPart({ buffer, kind, count }) {
    const { gl } = this, [x, y, z] = this.grid.size;
    // Points lie inside the voxels that they made: only those within a voxel of the surface are let through.
    gl.uniform1f(this.plain.at.u_lift, kind === "points" ? Math.hypot(x, y, z) : 0);
    gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
    for (const [at, size, offset] of [[0, 3, 0], [1, 4, 12]]) {
      gl.enableVertexAttribArray(at);
      gl.vertexAttribPointer(at, size, gl.FLOAT, false, 28, offset);
    }
    gl.drawArrays({ lines: gl.LINES, triangles: gl.TRIANGLES, points: gl.POINTS }[kind], 0, count);
    for (const at of [0, 1]) gl.disableVertexAttribArray(at);
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
    FACES.forEach((face, f) => {
      const first = mesh.start[f], count = mesh.start[f + 1] - first, a = f >> 1;
      const border = f % 2 ? grid.lower[a] + grid.size[a] * grid.shape[a] : grid.lower[a];
      if (!count || (f % 2 ? eye[a] >= border : eye[a] <= border)) return;  // no face of this direction looks at the eye
      gl.uniform3fv(at.u_o, face.o);
      gl.uniform3fv(at.u_u, face.u);
      gl.uniform3fv(at.u_v, face.v);
      gl.uniform1f(at.u_shade, face.shade);
      for (let done = 0; done < count; done += FACES_AT_ONCE) {
        gl.uniform1i(at.u_first, first + done);
        gl.drawElements(gl.TRIANGLES, 6 * Math.min(FACES_AT_ONCE, count - done), gl.UNSIGNED_SHORT, 0);
      }
    });
  }
}
