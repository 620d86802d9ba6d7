//! What the reader can try, in the order of subjects: lines for a shell that has read `demo.sh`, and what shows that each did
//! what is said of it. `shell` runs them.

/// What belongs to one subject.
pub(super) struct Subject {
    pub(super) title: &'static str,
    /// Whether it needs the mail server of `--mail`.
    pub(super) needs_mail: bool,
    pub(super) tries: &'static [Try],
}

/// One line and what is expected of it.
pub(super) struct Try {
    pub(super) about: &'static str,
    pub(super) line: &'static str,
    /// Texts that are in what it prints, in capital or small letters.
    pub(super) shows: &'static [&'static str],
}

const fn subject(title: &'static str, tries: &'static [Try]) -> Subject {
    Subject {
        title,
        needs_mail: false,
        tries,
    }
}

const fn shows(about: &'static str, line: &'static str, shows: &'static [&'static str]) -> Try {
    Try { about, line, shows }
}

/// Everything that can be tried.
pub(super) const SUBJECTS: &[Subject] = &[
    subject(
        "A restaurant",
        &[
            shows(
                "the restaurants, for everybody",
                r#"curl -s "$G/api/restaurants""#,
                &[r#""items":[{"#, r#""next_cursor""#],
            ),
            shows(
                "when two people can come",
                r#"curl -s "$G/api/restaurants/$R/availability?date=$DAY&party_size=2""#,
                &[r#""is_available":true"#],
            ),
            shows(
                "book a table as a guest, without an account",
                r#"BOOKED=$(curl -s -H "$J" -d "$BOOKING" "$G/api/reservations"); echo "$BOOKED""#,
                &[r#""status":"confirmed""#, r#""manage_url""#],
            ),
            shows(
                "come back with the link of the confirmation, and cancel",
                r#"curl -s -X DELETE "$G/api/reservations/manage/$(echo "$BOOKED" | field manage_token)""#,
                &[r#""status":"cancelled""#],
            ),
        ],
    ),
    Subject {
        title: "Opening an account by mail",
        needs_mail: true,
        tries: &[
            shows(
                "register: 202 whether or not the address has an account",
                r#"curl -si -H "$J" -d "$NEWCOMER" "$G/api/auth/register""#,
                &["202 accepted"],
            ),
            shows(
                "the letter, in the mail server's box, and the code in it",
                r#"sleep 2; cat "$D"/mail/new/*; CODE=$(cat "$D"/mail/new/* | code)"#,
                &["subject:"],
            ),
            shows(
                "with the code the account is there",
                r#"curl -si -H "$J" -d "{\"code\":\"$CODE\"}" "$G/api/auth/register/confirm""#,
                &["201 created"],
            ),
        ],
    },
    subject(
        "1 Accounts: log in, who am I, where am I logged in, log out",
        &[
            shows(
                "a wrong password tells nothing, and costs a try of the limit",
                r#"curl -si -H "$J" -d '{"email":"guest@example.com","password":"wrong-wrong"}' "$G/api/auth/login""#,
                &["401", "auth.credentials_wrong", "ratelimit:"],
            ),
            shows(
                "log in: an access token for 15 minutes and a refresh token",
                r#"LOGIN=$(curl -s -H "$J" -d "$GUEST" "$G/api/auth/login"); TOKEN=$(echo "$LOGIN" | field access_token); echo "$LOGIN""#,
                &[r#""access_token""#, r#""refresh_token""#],
            ),
            shows(
                "who is calling",
                r#"curl -s -H "authorization: Bearer $TOKEN" "$G/api/auth/me""#,
                &["guest@example.com"],
            ),
            shows(
                "where the account is logged in",
                r#"curl -s -H "authorization: Bearer $TOKEN" "$G/api/auth/sessions""#,
                &[r#""items":[{"#],
            ),
            shows(
                "log out; the token counts no more, at once",
                r#"curl -s -X POST -H "authorization: Bearer $TOKEN" "$G/api/auth/logout"; curl -si -H "authorization: Bearer $TOKEN" "$G/api/auth/me""#,
                &["401", "auth.token_revoked"],
            ),
        ],
    ),
    subject(
        "2 Tokens: the keys that sign them, refreshing",
        &[
            shows(
                "the public keys, for whoever checks access tokens",
                r#"curl -s "$G/.well-known/jwks.json""#,
                &[r#""keys":[{"#, r#""kty""#],
            ),
            shows(
                "one refresh token, sent twice within ten seconds, has one successor: nobody is logged out by two tabs",
                r#"REFRESH=$(curl -s -H "$J" -d "$GUEST" "$G/api/auth/login" | field refresh_token); for n in 1 2; do curl -s -H "$J" -d "{\"refresh_token\":\"$REFRESH\"}" "$G/api/auth/refresh" | field refresh_token; done | uniq -c"#,
                &["2 gr_"],
            ),
            shows(
                "another signing key, with no failed request",
                "gantry token-key rotate && gantry token-key list",
                &["standby", "active"],
            ),
        ],
    ),
    subject(
        "3 Logging in elsewhere (docs/operate/providers.md adds Google and others)",
        &[shows(
            "the providers, for the buttons of a login page: none yet",
            r#"curl -s "$G/api/auth/oauth""#,
            &[r#"[]"#],
        )],
    ),
    subject(
        "4 API keys",
        &[
            shows(
                "a key for a program: what its role may, narrowed to reading reservations, for a day",
                r#"TILL=$(gantry --quiet key create till --role staff --scope techplus:reservations.read --expires-in 1d); echo "$TILL""#,
                &["gk_"],
            ),
            shows(
                "it reads",
                r#"curl -si -H "x-api-key: $TILL" "$G/api/reservations?restaurant_id=$R&date=$DAY""#,
                &["200 ok", r#""items""#],
            ),
            shows(
                "and nothing else: 403",
                r#"curl -si -X DELETE -H "x-api-key: $TILL" "$G/api/restaurants/$R""#,
                &["403", "auth.permission_missing"],
            ),
            shows(
                "which keys there are, without their secrets",
                "gantry key list",
                &["till"],
            ),
        ],
    ),
    subject(
        "5 Roles and permissions",
        &[
            shows(
                "reservations are not for strangers: 401, and what the code of that means",
                r#"curl -si "$G/api/reservations?restaurant_id=$R"; curl -s "$G/_gantry/errors/auth.required""#,
                &["401", r#""code":"auth.required""#, "What it means"],
            ),
            shows(
                "nor for somebody with an account and no rights: 403",
                r#"TOKEN=$(curl -s -H "$J" -d "$GUEST" "$G/api/auth/login" | field access_token); curl -si -H "authorization: Bearer $TOKEN" "$G/api/reservations?restaurant_id=$R""#,
                &["403", "auth.permission_missing"],
            ),
            shows(
                "why, for operators",
                "gantry explain GET /api/reservations --user guest@example.com",
                &["reservations.read"],
            ),
            shows(
                "which roles may call what",
                "gantry rbac matrix --plugin techplus",
                &["| staff |", "| POST | /api/restaurants |"],
            ),
        ],
    ),
    subject(
        "6 Rate limits",
        &[
            shows(
                "every answer of a route with limits tells of them",
                r#"curl -si "$G/api/reservations/manage/not-a-token""#,
                &[
                    "ratelimit-policy: \"manage\";q=100;w=900",
                    "ratelimit: \"manage\";r=",
                ],
            ),
            shows(
                "a key that may be used twice a minute: 200, 200, 429",
                r#"FEW=$(gantry --quiet key create few --role staff --rate 2/60); for n in 1 2 3; do curl -s -o /dev/null -w '%{http_code} ' -H "x-api-key: $FEW" "$G/api/reservations?restaurant_id=$R"; done; echo"#,
                &["200 200 429"],
            ),
            shows(
                "when to come back",
                r#"curl -si -H "x-api-key: $FEW" "$G/api/reservations?restaurant_id=$R""#,
                &["429", "retry-after:", "violated-policies"],
            ),
        ],
    ),
    subject(
        "7 Cache",
        &[
            shows(
                "the second answer is the first one again, without waking the plugin",
                r#"curl -s -o /dev/null "$G/api/restaurants/$R/menu"; curl -si "$G/api/restaurants/$R/menu""#,
                &["200 ok", "cache-status: gantry; hit", "etag:"],
            ),
            shows(
                "who has it is told so: 304",
                r#"ETAG=$(curl -si "$G/api/restaurants/$R/menu" | sed -n 's/^etag: //p' | tr -d '\r'); curl -si -H "if-none-match: $ETAG" "$G/api/restaurants/$R/menu""#,
                &["304 not modified"],
            ),
            shows(
                "the staff changes the menu, and guests see it at once: made anew, with the new category",
                r#"C=$(curl -s -H "x-api-key: $KEY" -H "$J" -d '{"name":"Specials of today","position":900}' "$G/api/restaurants/$R/menu/categories" | field id); curl -si "$G/api/restaurants/$R/menu""#,
                &["cache-status: gantry; fwd=", "specials of today"],
            ),
            shows(
                "and without it again",
                r#"curl -s -X DELETE -H "x-api-key: $KEY" "$G/api/restaurants/$R/menu/categories/$C"; curl -si "$G/api/restaurants/$R/menu" | grep -c "Specials of today""#,
                &["0"],
            ),
            shows(
                "what is kept, and throwing it away",
                r#"gantry cache show; gantry cache purge techplus --tag "restaurant:$R""#,
                &["techplus"],
            ),
        ],
    ),
    subject(
        "8 Requests that are done once",
        &[
            shows(
                "a booking with a key",
                r#"ID=demo-$(date +%s%N); curl -si -H "idempotency-key: $ID" -H "$J" -d "$BOOKING" "$G/api/reservations""#,
                &["201 created", r#""status":"confirmed""#],
            ),
            shows(
                "sent again it is the same reservation, not a second one",
                r#"curl -si -H "idempotency-key: $ID" -H "$J" -d "$BOOKING" "$G/api/reservations""#,
                &[
                    "201 created",
                    "idempotency-replayed: true",
                    r#""manage_url""#,
                ],
            ),
            shows(
                "the key with another body: 422",
                r#"curl -si -H "idempotency-key: $ID" -H "$J" -d "$(echo "$BOOKING" | sed 's/"party_size":2/"party_size":3/')" "$G/api/reservations""#,
                &["422", "idempotency.key_reused"],
            ),
        ],
    ),
    subject(
        "9 Requests and answers",
        &[
            shows(
                "all mistakes of a body at once, each with its place; the plugin was not woken",
                r#"curl -si -H "$J" -d '{"restaurant_id":"x","date":"tomorrow","time":"25:00","party_size":0}' "$G/api/reservations""#,
                &[
                    "422",
                    r#""at":"/date""#,
                    r#""at":"/time""#,
                    r#""at":"/party_size""#,
                ],
            ),
            shows(
                "pages of an origin that the operator names may call, and log people in: the preflights",
                r#"curl -si -X OPTIONS -H 'origin: http://localhost:3000' -H 'access-control-request-method: POST' -H 'access-control-request-headers: content-type' "$G/api/reservations" "$G/api/auth/login""#,
                &["204", "access-control-allow-origin: http://localhost:3000"],
            ),
            shows(
                "Brotli for those who take it",
                r#"curl -s -o /dev/null -D - -H 'accept-encoding: br' "$G/api/restaurants/$R/menu""#,
                &["content-encoding: br", "x-content-type-options: nosniff"],
            ),
        ],
    ),
    subject(
        "10 Versions",
        &[
            shows(
                "a path that ends: since when, until when, and what stands in its place",
                r#"curl -si "$G/api/restaurants/$R/slots?date=$DAY&party_size=2""#,
                &[
                    "200 ok",
                    "deprecation: @",
                    "sunset:",
                    "rel=\"successor-version\"",
                ],
            ),
            shows(
                "who still calls it",
                "gantry plugin deprecated techplus",
                &["/restaurants/{id}/slots"],
            ),
        ],
    ),
    subject(
        "11 Documentation (also in a browser: /api/docs, /api/redoc, /api/swagger)",
        &[
            shows(
                "OpenAPI 3.1 of what you may call; this is for everybody",
                r#"curl -s "$G/api/openapi.json" | grep -oE '"(openapi|operationId)":"[^"]*"' | LC_ALL=C sort | head -n 9"#,
                &[r#""openapi":"3.1"#, "operationId"],
            ),
            shows(
                "the whole document, and a collection for Postman, Insomnia and Bruno",
                r#"gantry openapi export -o "$D/api.json" && gantry openapi postman -o "$D/collection.json""#,
                &["api.json", "collection.json"],
            ),
            shows(
                "the server keeps what a front end was built against; in its CI this line fails when not",
                r#"gantry contract check --contract "$D/api.json""#,
                &["kept", "operations"],
            ),
            shows(
                "a mock: the answer of the description, without the plugin",
                r#"curl -si -H 'prefer: mock' -H "$J" -d "$BOOKING" "$G/api/reservations""#,
                &["201 created", "x-gantry-mock: true", r#""manage_token""#],
            ),
        ],
    ),
    subject(
        "12 Files",
        &[
            shows(
                "send a photo; the answer says where it is, and where its smaller versions are",
                r#"PHOTO=$(curl -s -H "x-api-key: $KEY" -H 'content-type: image/jpeg' --data-binary @plugins/techplus/demo/soup.jpg "$G/api/photos?filename=soup.jpg" | tee /dev/stderr | field id)"#,
                &[r#""sha256""#, r#""renditions""#],
            ),
            shows(
                "a smaller version, made in the sandbox when first asked for",
                r#"curl -s -o /dev/null -D - "$G/api/photos/$PHOTO/renditions/thumb""#,
                &["200 ok", "content-type: image/webp"],
            ),
            shows(
                "a part of it",
                r#"curl -s -o /dev/null -D - -r 0-9 "$G/api/photos/$PHOTO""#,
                &["206 partial content", "content-range: bytes 0-9/"],
            ),
            shows(
                "a link that gives it to whoever has it, for five minutes",
                r#"LINK=$(curl -s -X POST -H "x-api-key: $KEY" -H "$J" -d '{"expires_in_s":300}' "$G/api/photos/$PHOTO/link" | field url); echo "$LINK"; curl -s -o /dev/null -D - "$G$LINK""#,
                &["/_gantry/blobs/", "200 ok"],
            ),
            shows(
                "a page of HTML that calls itself a picture: 415",
                r#"curl -si -H "x-api-key: $KEY" -H 'content-type: image/png' -d '<html><script>alert(1)</script></html>' "$G/api/photos""#,
                &["415", "blobs.type_mismatch"],
            ),
            shows(
                "a resumable upload (tus): begin, ask where it stands, give it up",
                r#"UP=$(curl -si -X POST -H "x-api-key: $KEY" -H 'tus-resumable: 1.0.0' -H 'upload-length: 100000' "$G/api/photos" | tee /dev/stderr | sed -n 's/^location: //p' | tr -d '\r'); case $UP in /*) UP=$G$UP;; esac; curl -sI -H "x-api-key: $KEY" -H 'tus-resumable: 1.0.0' "$UP"; curl -s -X DELETE -H "x-api-key: $KEY" -H 'tus-resumable: 1.0.0' "$UP""#,
                &["201 created", "upload-offset: 0"],
            ),
        ],
    ),
    subject(
        "13 Audit",
        &[
            shows(
                "who did what, when and from where",
                "gantry audit list --limit 8",
                &["api_key.created"],
            ),
            shows(
                "failed logins, too",
                "gantry audit list --action login.failed",
                &["login.failed"],
            ),
            shows(
                "nobody has changed the trail",
                "gantry audit verify",
                &["events"],
            ),
        ],
    ),
    subject(
        "For whoever operates it",
        &[
            shows(
                "what is deployed, and whether anything is missing or wrong",
                "gantry plugin list; gantry status",
                &["techplus", "images"],
            ),
            shows(
                "what a Prometheus would read",
                r#"curl -s -H "authorization: Bearer $(cat "$D/admin.key")" "$G/metrics" | grep gantry_cache_requests_total"#,
                &[r#"result="hit""#],
            ),
            shows(
                "the admin API, as OpenAPI",
                r#"curl -s "$G/_gantry/api/v1/openapi.json" | grep -o '"openapi":"[^"]*"'"#,
                &[r#""openapi":"3.1"#],
            ),
        ],
    ),
];
