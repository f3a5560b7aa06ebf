"""Why keys of LiteLLM's configuration have no counterpart: by section and key."""

from collections.abc import Mapping

_KEYS = "people and keys are made with `narthex keys`, not in this file"
_STORE = "the data folder holds what is stored"
_CALLBACKS = "nothing is sent to logging services; there are log lines and /metrics"
_CACHE = "answers are not cached"
_GUARD = "requests and answers are not judged by guardrails"
_PRICES = "prices and budgets are not set here"
_LIMITS = "limits of a server elsewhere are not counted here: what it refuses is tried elsewhere"
_ROUTE = "there is no such route"
_DEFAULTS = "request fields are sent as the caller sent them; none is added"
_CLOUD = "no such cloud account is used here"
_POLICY = "one rule for all kinds of errors: see `retry`"

TOP: Mapping[str, str] = {
    "environment_variables": "set it in the environment of `narthex serve`",
    "guardrails": _GUARD,
    "mcp_servers": "there are no MCP servers behind this address",
    "include": "other files are not read: import each of them",
    "callback_settings": _CALLBACKS,
    "finetune_settings": _ROUTE,
    "files_settings": _ROUTE,
    "search_tools": "there are no search tools",
    "vector_store_registry": "documents elsewhere are not searched",
    "credential_list": "named credentials are not resolved: give the provider its `api_key`",
    "prompts": "prompts are not kept here",
    "assistant_settings": _ROUTE,
}

ENTRY: Mapping[str, str] = {
    "tpm": _LIMITS,
    "rpm": _LIMITS,
    "model_info": "models are not described by hand",
}

PARAMS: Mapping[str, str] = {
    **dict.fromkeys(("tpm", "rpm", "max_parallel_requests"), _LIMITS),
    **dict.fromkeys(
        ("temperature", "max_tokens", "top_p", "top_k", "seed", "n", "stop", "response_format", "tools", "tool_choice",
         "presence_penalty", "frequency_penalty", "reasoning_effort", "thinking", "extra_body", "stream", "user",
         "max_completion_tokens", "service_tier", "metadata"),
        _DEFAULTS,
    ),
    **dict.fromkeys(
        ("input_cost_per_token", "output_cost_per_token", "input_cost_per_second", "output_cost_per_second",
         "max_budget", "budget_duration"),
        _PRICES,
    ),
    **dict.fromkeys(
        ("aws_access_key_id", "aws_secret_access_key", "aws_region_name", "aws_session_name", "aws_role_name",
         "vertex_project", "vertex_location", "vertex_credentials", "tenant_id", "client_id",
         "client_secret", "azure_ad_token", "azure_username", "azure_password"),
        _CLOUD,
    ),
    "api_version": "Azure's v1 API is asked, which has no versions by date",
    "drop_params": "`http.lenient` is for the whole server, and keys can have it",
    "additional_drop_params": "`http.lenient` drops what a server doesn't take, and names it",
    "extra_headers": "no headers are added to requests",
    "headers": "no headers are added to requests",
    "organization": "no headers are added to requests: give the key of that organization",
    "region_name": "deployments are not chosen by region",
    "tags": "deployments are not chosen by tags",
    "litellm_credential_name": "named credentials are not resolved: give the provider its `api_key`",
    "cache_control_injection_points": "messages are sent as the caller wrote them",
    "ssl_verify": "certificates are always checked",
    "mock_response": "there are no invented answers",
    "mock_timeout": "there are no invented answers",
    "guardrails": _GUARD,
    "cooldown_time": "one rule for all deployments of a model: see `retry.cooldown`",
    "allowed_fails": "a deployment is left alone after five failures in a row, or when half of its requests fail",
}  # fmt: skip

LITELLM: Mapping[str, str] = {
    **dict.fromkeys(
        ("callbacks", "success_callback", "failure_callback", "service_callback", "service_callbacks",
         "langfuse_default_tags", "turn_off_message_logging", "default_team_settings", "redact_user_api_key_info",
         "datadog_params", "s3_callback_params", "prometheus_initialize_budget_metrics"),
        _CALLBACKS,
    ),
    **dict.fromkeys(("cache", "cache_params", "enable_redis_auth_cache"), _CACHE),
    **dict.fromkeys(
        ("max_budget", "budget_duration", "max_internal_user_budget", "cost_discount_config", "cost_margin_config",
         "include_cost_in_streaming_usage", "disable_end_user_cost_tracking"),
        _PRICES,
    ),
    **dict.fromkeys(
        ("key_generation_settings", "default_key_generate_params", "upperbound_key_generate_params",
         "default_internal_user_params", "default_team_params", "max_ui_session_budget"),
        _KEYS,
    ),
    **dict.fromkeys(("guardrails", "enable_json_schema_validation"), _GUARD),
    **dict.fromkeys(("api_key", "openai_key", "anthropic_key", "api_base"), "give it to each provider"),
    "enable_json_schema_validation": "answers are always held to the schema that was asked for",
    "set_verbose": "log lines are always of one detail",
    "telemetry": "nothing is sent to anybody",
    "modify_params": "requests are honoured, emulated or refused; never bent",
    "ssl_verify": "certificates are always checked",
    "force_ipv4": "addresses are tried as the name service gives them",
    "model_alias_map": "write the alias as a name of its own under `models`",
    "context_window_fallback_dict": "see `fallbacks.context_window` of each model",
}  # fmt: skip

_REDIS = "each worker keeps its own account of load and health"

ROUTER: Mapping[str, str] = {
    **dict.fromkeys(("redis_host", "redis_port", "redis_password", "redis_url", "redis_db", "cache_kwargs"), _REDIS),
    **dict.fromkeys(("retry_policy", "model_group_retry_policy", "allowed_fails_policy"), _POLICY),
    **dict.fromkeys(("cache_responses", "caching_groups", "client_ttl"), _CACHE),
    **dict.fromkeys(("enable_tag_filtering", "tag_filtering_match_any"), "deployments are not chosen by tags"),
    "allowed_fails": "a deployment is left alone after five failures in a row, or when half of its requests fail",
    "disable_cooldowns": "a deployment that fails is always tried last for a while",
    "enable_pre_call_checks": "always on: deployments that can't honour a request are left out",
    "routing_strategy_args": "the strategies have no settings",
    "max_fallbacks": "every fallback may be asked; `retry.attempts` is the limit",
    "set_verbose": "log lines are always of one detail",
    "debug_level": "log lines are always of one detail",
}

GENERAL: Mapping[str, str] = {
    **dict.fromkeys(
        ("database_url", "database_connection_pool_limit", "database_connection_timeout", "store_model_in_db",
         "use_redis_transaction_buffer", "proxy_batch_write_at", "store_prompts_in_spend_logs", "disable_spend_logs",
         "disable_prisma_schema_update"),
        _STORE,
    ),
    **dict.fromkeys(("alerting", "alerting_threshold", "alert_types", "alerting_args"), _CALLBACKS),
    **dict.fromkeys(
        ("custom_auth", "enable_jwt_auth", "litellm_jwtauth", "enable_oauth2_auth", "custom_sso", "ui_access_mode",
         "allowed_routes", "public_routes", "admin_only_routes", "enforced_params", "enforce_user_param",
         "custom_key_generate", "key_management_system", "key_management_settings"),
        _KEYS,
    ),
    **dict.fromkeys(("proxy_budget_rescheduler_min_time", "proxy_budget_rescheduler_max_time"), _PRICES),
    **dict.fromkeys(("background_health_checks", "health_check_interval", "health_check_details"),
                    "health is learned from the requests themselves"),
    **dict.fromkeys(("pass_through_endpoints", "enable_public_model_hub"), _ROUTE),
    **dict.fromkeys(("max_parallel_requests", "global_max_parallel_requests"),
                    "requests to servers elsewhere are not counted side by side"),
    **dict.fromkeys(("host", "port"), "give it to `narthex serve`, or write it at the top of the file"),
    "master_key": "secrets are not copied; a key is made at the first start, others with `narthex keys create`",
    "completion_model": "write the model as a name of its own, or as '*', under `models`",
    "cancel_on_disconnect": "always on: a server is left as soon as the caller has gone",
    "forward_client_headers_to_llm_api": "callers' headers are for us and go no further",
}  # fmt: skip

OTHERWISE = "there is no such setting"
